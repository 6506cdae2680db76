"""Limits of requests, exact and in memory that never grows: rules, their tables, and the check."""

from thebes.ratelimit.check import RateLimits
from thebes.ratelimit.limits import Limit
from thebes.ratelimit.meters import Verdict
from thebes.ratelimit.rules import Quota, Rate, Rule, read_rules

__all__ = ["Limit", "Quota", "Rate", "RateLimits", "Rule", "Verdict", "read_rules"]
