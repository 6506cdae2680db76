"""At most N for each client address, and as by any limit 16 times as many for an IPv6 /48.

For what is counted apart from requests: failures, mails. The counters lie in this process, in tables of fixed
size; a flood of addresses costs no memory, and those that find no room share cells with their neighbours.

Does not protect: several workers, each of which has counters of its own; a restart begins anew.
"""

from __future__ import annotations

from thebes.ratelimit.addresses import WIDE_SHARE, address_keys
from thebes.ratelimit.limits import Limit
from thebes.ratelimit.rules import MAX_QUOTA, SECOND_NS, Quota


class AddressQuota:
    """A `Quota` by client address. `now` is nanoseconds of a monotonic clock. Safe for threads.

    >>> quota = AddressQuota(Quota("2/minute"))
    >>> [quota.take("2001:db8::1", now=0), quota.take("2001:db8::2", now=0), quota.take("2001:db8::3", now=0)]
    [0, 0, 60]
    """

    def __init__(self, rule: Quota) -> None:
        self._window_ns = rule.period_ns
        self._narrow = Limit(rule)
        self._wide = Limit(_widened(rule))

    def take(self, address: str, *, now: int) -> int:
        """Count one, and return 0; or count nothing, and return the whole seconds to wait."""
        keys = [(self._wide if key.share > 1 else self._narrow, key.exact) for key in address_keys(address)]
        for taken, (limit, key) in enumerate(keys):
            verdict = limit.take(key, now=now)
            if not verdict.allowed:
                for former, former_key in keys[:taken]:
                    former.refund(former_key, now=now)
                return max(1, verdict.retry_after)
        return 0

    def refund(self, address: str, taken_at: int, *, now: int) -> None:
        """Give back one that was taken then, if it still counts."""
        for key in address_keys(address):
            limit = self._wide if key.share > 1 else self._narrow
            # Later it would be another's that is given back.
            if now - taken_at < (self._window_ns if key.share == 1 else limit.rule.period_ns):
                limit.refund(key.exact, now=now)


def _widened(rule: Quota) -> Quota:
    """Return a quota of at most 16 times as many in the same window.

    A Quota remembers at most 100 times. So 320 in 5 minutes are 80 in each 75 seconds.
    """
    parts = -(-rule.count * WIDE_SHARE // MAX_QUOTA)
    seconds = -(-rule.period_ns // (parts * SECOND_NS))
    name = f"{rule.name}-wide" if rule.name else None
    return Quota(f"{rule.count * WIDE_SHARE // parts}/{seconds} seconds", name=name, memory=rule.memory)
