"""Ask the check that limits, by itself, without a server."""

from dataclasses import dataclass
from typing import Any

from asking import request_facts
from thebes.facts import RequestFacts, Surroundings
from thebes.paths import RoutePattern, RouteTable
from thebes.ratelimit import RateLimits


@dataclass(frozen=True)
class Declared:
    """What an app declares of limits for a route."""

    limit: object = "default"
    cost: int = 1


def limited_routes(**routes: Declared) -> RouteTable:
    """Return exact routes with their limits."""
    table = RouteTable()
    for name, declared in routes.items():
        table.declare(RoutePattern("GET", "/" + name), limit=declared.limit, cost=declared.cost)
    return table


def asked(
    address: str = "192.0.2.1", path: str = "/", *, surroundings: Surroundings | None = None, **rest: Any
) -> RequestFacts:
    """Return the facts of one request from an address."""
    return request_facts(path=path, client=(address, 50000), surroundings=surroundings, **rest)


def hits(check: RateLimits, count: int = 1, **request: Any) -> int:
    """Return how many of so many requests were let through."""
    return sum(check(asked(**request)) is None for _ in range(count))
