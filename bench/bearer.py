"""What it costs to verify a bearer token that was never seen before, over its signature alone.

Both sides are timed in a loop, in one thread on the server's core: `BearerTokens.verify`, each token for the
first time, and the `verify` of the cryptography library with the key, the message and the signature in its
hands. That flatters both, so the detail tells what such a token adds to a GET on a live server.
"""

from __future__ import annotations

import asyncio
import base64
import os
import statistics
import time
from contextlib import ExitStack
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

import harness
import load
import pairs
from members import Wanted
from thebes.secret import Secret
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.secrets.strength import SecretKey
from thebes.stores.memory import MemoryStore
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.claims import SessionClaims
from thebes.tokens.signing_keys import SigningKeys

NAME = "bearer_miss_vs_raw_es256"
AIM = 1.3
GET = load.HttpConversation(load.navigation("/notes?page=7"), b'{"notes":["thebes","gates"],"page":"7"}')
CLAIMS = SessionClaims(
    sub="0192f0c1-7c1e-7d6a-9b1e-0123456789ab",
    sid="c2Vzc2lvbiBvZiBhZGEgMDAx",
    client_id="self",
    auth_time=1_800_000_000.0,
    amr=("pwd",),
    epoch=0,
)


class Verifier:
    """The tokens of one service, and two ways to verify them."""

    def __init__(self) -> None:
        keyring = Keyring((SecretKey("k1", Secret(os.urandom(32))),))
        keys = SigningKeys(MemoryStore().keys, BoundKeys(keyring, Purpose.SIGNING_KEYS), algorithm="ES256")
        asyncio.run(keys.load())
        self._tokens = BearerTokens(keys, issuer=load.OWN_ORIGIN)
        self._key = _public_key(self._tokens.jwks()["keys"][0])

    def ours_ns(self, count: int) -> float:
        """Return the CPU time of this thread for one token that is new, in nanoseconds."""
        fresh = self._fresh(count)
        before = time.thread_time_ns()
        for token in fresh:
            self._tokens.verify(token)
        return (time.thread_time_ns() - before) / count

    def raw_ns(self, count: int) -> float:
        """Return the CPU time of this thread for one signature, in nanoseconds."""
        signatures = [_signature(token) for token in self._fresh(count)]
        algorithm = ECDSA(SHA256())
        before = time.thread_time_ns()
        for signature, message in signatures:
            self._key.verify(signature, message, algorithm)
        return (time.thread_time_ns() - before) / count

    def _fresh(self, count: int) -> list[bytes]:
        return [self._tokens.issue(CLAIMS).encode("ascii") for _ in range(count)]


def measure(effort: pairs.Effort) -> harness.Figure:
    """Return the CPU time of verifying an unseen token / of one ES256 signature.

    Raises:
        load.WrongAnswerError: The live server did not recognise a token.
    """
    rounds = harness.Rounds()
    verifier = Verifier()
    raw = partial(verifier.raw_ns, effort.requests)
    ours = raw if effort.noise_only else partial(verifier.ours_ns, effort.requests)
    with harness.pinned_threads(1, effort.cores.server) as thread:
        for warm_up in (ours, raw):
            thread.submit(warm_up).result()
        count = effort.pairs * effort.rounds
        thread.submit(partial(rounds.measure, count, above=ours, below=raw)).result()
    harness.say(f"{NAME}: {count} rounds: {statistics.median(rounds.ratios):.3f}")
    ours_us, raw_us = (statistics.median(side) / 1000 for side in (rounds.above, rounds.below))
    plain_us, token_us = live_us(effort)
    detail = (
        f"{ours_us:.1f} us of CPU, ES256 alone {raw_us:.1f} us; on a live server a GET without a token takes "
        f"{plain_us:.1f} us, with an unseen one {token_us:.1f} us"
    )
    return harness.Figure(NAME, "lower", AIM, rounds.ratios, detail)


def live_us(effort: pairs.Effort) -> tuple[float, float]:
    """Return the server's CPU time for a GET without a token and with an unseen one, in microseconds.

    Raises:
        load.WrongAnswerError: The server did not recognise a token.
    """
    plain: list[float] = []
    with_token: list[float] = []
    # A call of `cost_ns` warms up, and rounds up to whole laps.
    wanted = Wanted(bearers=(effort.rounds + 1) * (effort.requests + 5 * load.CONNECTIONS))
    with ExitStack() as stack:
        server = harness.Server("starlette", protected=True, core=effort.cores.server, wanted=wanted)
        stack.enter_context(server)
        requests = (
            load.with_field(GET.request, "Authorization", f"Bearer {token}")
            for token in server.members.bearers
        )
        answer = load.HttpConversation(GET.request, GET.body, shows=pairs.FOR_NOBODY_ELSE)
        unseen = load.TurnsConversation(requests, answer)
        cost = partial(load.cost_ns, port=server.port, count=effort.requests, cpu_ns=server.cpu_ns)
        cost(GET), cost(unseen)
        for _ in range(effort.rounds):
            plain.append(cost(GET) / 1000)
            with_token.append(cost(unseen) / 1000)
    return statistics.median(plain), statistics.median(with_token)


def _signature(token: bytes) -> tuple[bytes, bytes]:
    """Return a token's signature as the library wants it, and what it signs."""
    message, _, segment = token.rpartition(b".")
    raw = base64.urlsafe_b64decode(segment + b"==")
    r, s = (int.from_bytes(half, "big") for half in (raw[:32], raw[32:]))
    return encode_dss_signature(r, s), message


def _public_key(published: dict[str, str]) -> EllipticCurvePublicKey:
    x, y = (int.from_bytes(base64.urlsafe_b64decode(published[name] + "=="), "big") for name in ("x", "y"))
    return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()


def main() -> None:
    """Measure what the command line names and print it."""
    pairs.main(None, (NAME,), lambda _, effort: measure(effort), "What an unseen bearer token costs.")


if __name__ == "__main__":
    main()
