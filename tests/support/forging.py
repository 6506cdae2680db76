"""Ask the CSRF check about one request: header lines in, its verdict out."""

from typing import Any

from asking import request_facts
from thebes.csrf import CrossOriginProtection
from thebes.facts import Denial, Mode, Surroundings
from thebes.paths import RouteTable

OWN = "https://example.com"
TRUSTED = "https://trusted.example"
WITH_PORT = "https://app.example.com:8443"
ON_IPV6 = "https://[::1]:8443"
ATTACKER = "https://attacker.example"
ORIGINS = (OWN, TRUSTED, WITH_PORT, ON_IPV6)
SESSION = ("Cookie", "theme=dark; session=1")
# Whatever isn't GET, HEAD or OPTIONS letter by letter may change something.
UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "PROPFIND", "LOCK", "post", "get", "Get", "GETX", "X-OWN", "")


def verdict(
    method: str = "POST",
    *lines: tuple[str, str | None],
    path: str = "/",
    routes: RouteTable | None = None,
    mode: Mode = Mode.PRODUCTION,
    origins: tuple[str, ...] = ORIGINS,
    **scope: Any,
) -> Denial | None:
    """Return what the check says of a request with these header lines; a value of None leaves one out."""
    surroundings = Surroundings(mode=mode, routes=routes or RouteTable())
    headers = [(name, value) for name, value in lines if value is not None]
    if not any(name == "Host" for name, _ in headers):
        headers.append(("Host", "example.com"))
    check = CrossOriginProtection(mode=mode, origins=origins, session_cookies=["session"])
    return check(request_facts(method, path, headers, surroundings=surroundings, **scope))
