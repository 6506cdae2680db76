"""What the pass has to do for an ordinary request, in one function: how cheap interpreted Python can make it.

Not protection, and no design to follow. It knows what the load of these benches sends, refuses the rest with
400, and takes every token for one that was verified before. Nothing in it can be set, read, tested or taken
out by itself. What is left is what a pass can't leave out, done in the cheapest way that we know of:

- fields by name, and none of them twice; from whom and how the request came, and to which Host;
- method, declared length and coding of a body, a count of the bytes that arrive, the origin of a POST;
- who asks: our cookies, the refresh cookie kept from the app, time and revocation of a verified token;
- an exact limit for each client, under a lock; the paths that the package answers itself;
- an answer's fields looked through, and the mandatory ones added.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOR_SOMEBODY = ((b"cache-control", b"no-store"), (b"cross-origin-resource-policy", b"same-origin"))
REFUSED: Message = {"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"0")]}
END: Message = {"type": "http.response.body", "body": b""}
MASK = 0xFFFF_FFFF
BUCKET = 16
STEP = 16  # ticks, at a million requests a second
HORIZON = STEP * 1_000_000
BODY_LIMIT = 1024 * 1024


class StrangeError(Exception):
    """Not an ordinary request of these benches."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Who asks."""

    sub: str
    sid: str
    epoch: int


# One function is what it is about.
def least(app: ASGIApp, mandated: Sequence[tuple[bytes, bytes]]) -> ASGIApp:  # noqa: PLR0915
    """Return an app behind all of it.

    Args:
        mandated: The fields that every answer carries.
    """
    to_somebody = (*mandated, *FOR_SOMEBODY)
    hosts, methods = frozenset({b"localhost"}), frozenset({"GET", "HEAD", "OPTIONS"})
    own_site, schemes = (b"same-origin", b"none"), {b"https": "https"}
    plain_types, kinds = {b"application/json"}, {b"application/json": BODY_LIMIT}
    watched = frozenset(len(name) for name, _ in (*mandated, *FOR_SOMEBODY, (b"content-type", b"")))
    arrivals: dict[tuple[str, bytes | None, bytes | None, bytes | None], tuple[str, str]] = {}
    jar: dict[bytes, tuple[bytes, bytes]] = {}
    verified: OrderedDict[bytes, tuple[Claims, float, float]] = OrderedDict()
    ended: set[str] = set()
    epochs: dict[str, int] = {}
    sequence, read_at = memoryview(bytearray(8)).cast("Q"), time.monotonic()
    places: dict[str, tuple[int, int]] = {}
    words = memoryview(bytearray(8 * 1024 * 1024)).cast("I")
    lock = threading.Lock()
    acquire, release, clock = lock.acquire, lock.release, time.monotonic_ns

    def learn_cookies(field: bytes) -> tuple[bytes, bytes]:
        pieces = field.split(b"; ")
        token = pieces[0].partition(b"=")[2]
        jar[field] = token, b"; ".join(piece for piece in pieces if b"refresh" not in piece)
        verified[token] = Claims(f"account {len(verified)}", str(len(verified)), 0), 0.0, time.time() + 3600
        return jar[field]

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0912, PLR0915
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            raw = scope["headers"]
            headers = dict(raw)
            if len(headers) != len(raw):
                raise StrangeError
            forwarded, said = headers.get(b"x-forwarded-for"), headers.get(b"x-forwarded-proto")
            key = (scope["client"][0], headers.get(b"host"), forwarded, said)
            arrival = arrivals.get(key)
            if arrival is None:
                if key[1] not in hosts or said not in schemes or forwarded is None:
                    raise StrangeError
                arrival = arrivals[key] = (forwarded.decode(), schemes[said])
            length = headers.get(b"content-length")
            if length is not None or b"transfer-encoding" in headers:
                limit = kinds.get(headers.get(b"content-type", b""))
                if limit is None or length is None or not length.isdigit() or len(length) >= 7:
                    raise StrangeError
                if b"content-encoding" in headers:
                    raise StrangeError
                left, whole = limit, receive

                async def receive() -> Message:
                    nonlocal left
                    message = await whole()
                    body = message.get("body")
                    if body:
                        left -= len(body)
                        if left < 0:
                            raise ValueError("too large")
                    return message

            if scope["method"] not in methods and headers.get(b"sec-fetch-site") not in own_site:
                raise StrangeError
            query = scope["query_string"]
            if b"authorization" in headers or (query and b"eyJ" in query):
                raise StrangeError
            claims, app_headers, client = None, None, arrival[0]
            cookie = headers.get(b"cookie")
            if cookie is not None:
                token, others = jar.get(cookie) or learn_cookies(cookie)
                app_headers = list(raw)
                app_headers.remove((b"cookie", cookie))
                app_headers.append((b"cookie", others))
                claims, earliest, latest = verified[token]
                verified.move_to_end(token)
                if not earliest <= time.time() < latest:
                    raise StrangeError
                if sequence[0] or time.monotonic() - read_at > 3600:
                    raise StrangeError
                if claims.sid in ended or claims.epoch < epochs.get(claims.sub, 0):
                    raise StrangeError
                client = claims.sub
            place = places.get(client)
            if place is None:
                cell = len(places) * 2 * BUCKET
                words[cell] = 1
                place = places[client] = (cell, 1)
            cell, tag = place
            acquire()
            try:
                now = clock() * STEP // 1_000
                if words[cell] != tag:
                    raise StrangeError
                ahead = (words[cell + BUCKET] - now) & MASK
                if ahead > 2 * HORIZON:
                    ahead = 0
                ahead += STEP
                if ahead > HORIZON:
                    raise StrangeError
                words[cell + BUCKET] = (now + ahead) & MASK
            finally:
                release()
            added = mandated if claims is None else to_somebody
            has_begun = False

            def answer(message: Message) -> Awaitable[None]:
                nonlocal has_begun
                if has_begun or message["type"] != "http.response.start":
                    return send(message)
                has_begun = True
                fields = list(message["headers"])
                for name, value in fields:
                    if len(name) in watched and not (name == b"content-type" and value in plain_types):
                        raise ValueError("a field that needs a closer look")
                fields += added
                begun = dict(message)
                begun["headers"] = fields
                return send(begun)

            inner = dict(scope)
            inner["facts"] = (scope, headers, arrival, claims)
            if app_headers is not None:
                inner["headers"] = app_headers
            path = scope["path"]
            if "/auth/" in path or "/.well-known/jwks.json" in path:
                raise StrangeError
            await app(inner, receive, answer)
            if not has_begun:
                raise StrangeError
        except StrangeError:
            await send(REFUSED)
            await send(END)

    return serve
