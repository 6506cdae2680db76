"""Signing keys exchanged while the service runs: what each process accepts in each step, and what goes wrong."""

import asyncio
import dataclasses
import itertools
from datetime import timedelta

import pytest

from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import BrokenSeal, KeyStatus, Purpose
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.claims import InvalidToken, TokenTerms
from thebes.tokens.cookie_tokens import CookieTokens
from thebes.tokens.key_rotation import (
    OVERLAP_SECONDS,
    PUBLISHED_SECONDS,
    KeyRotation,
    RotationConflict,
    RotationStep,
)
from thebes.tokens.signing_keys import RELOAD_INTERVAL, SigningKeys, new_key, promoted_last
from token_making import ADA, ISSUER, NOW, KeysInMemory, header_of, mac_keys, ring, seals

RELOAD = RELOAD_INTERVAL.total_seconds()


@pytest.fixture
def rotation(store: KeysInMemory) -> KeyRotation:
    return KeyRotation(store, seals("old"))


async def process(store: KeysInMemory, *, now: float, lifetime: float = 3600) -> BearerTokens:
    """Return the tokens of a process that has just started."""
    keys = SigningKeys(store, seals("old"))
    await keys.load(now=now)
    return BearerTokens(
        keys, issuer=ISSUER, lifetime=timedelta(seconds=lifetime), leeway=timedelta(seconds=60)
    )


def kid(token: str) -> str:
    return header_of(token)["kid"]


class TestSteps:
    @pytest.mark.requirement("TOK-41")
    async def test_published_then_promoted_then_retired(self, store, rotation):
        service = await process(store, now=NOW)
        first = service.keys.in_use.kid

        published = await rotation.advance(now=NOW + 100)
        new = published.kid
        assert published == RotationStep("published", new, NOW + 160)
        early = await rotation.advance(now=NOW + 159)
        assert early == RotationStep("waiting", new, NOW + 160)

        promoted = await rotation.advance(now=NOW + 160)
        assert promoted == RotationStep("promoted", new, NOW + 160)

        retired = await rotation.advance(now=NOW + 170)
        assert retired == RotationStep("retired", first, NOW + 160 + OVERLAP_SECONDS)
        assert (store.rows[new].status, store.rows[first].status) == ("promoted", "retired")

    @pytest.mark.requirement("TOK-41")
    async def test_new_tokens_use_the_newest_key_and_older_ones_verify_until_none_can_be_valid(
        self, store, rotation
    ):
        """A token of 60 minutes with 60 s of leeway, the most there may be, made by a process that is late."""
        service, late = await process(store, now=NOW), await process(store, now=NOW)
        first = service.keys.in_use.kid
        await rotation.advance(now=NOW)
        await service.keys.reload(now=NOW + RELOAD)
        promoted_at = NOW + PUBLISHED_SECONDS
        await rotation.advance(now=promoted_at)
        await service.keys.reload(now=promoted_at)
        new = service.issue(ADA, now=promoted_at)
        old = late.issue(ADA, now=promoted_at + 2 * RELOAD - 1)
        retired = await rotation.advance(now=promoted_at)
        await service.keys.reload(now=promoted_at)

        assert (kid(new), kid(old), retired.kid) == (service.keys.in_use.kid, first, first)
        last = promoted_at + 2 * RELOAD - 1 + 3600 + 60
        assert service.verify(old, now=last - 0.1).sub == ADA.sub
        assert last < retired.due_at
        assert service.verify(new, now=promoted_at + 3600).sub == ADA.sub

    @pytest.mark.requirement("TOK-41")
    async def test_a_retired_key_is_refused_from_its_end_on_even_between_two_readings(self, store, rotation):
        """Also a token that was verified before, and one whose own time isn't over: a thief writes any `exp`."""
        service = await process(store, now=NOW)
        thief = service.keys.in_use
        for now in (NOW, NOW + 60, NOW + 61):
            step = await rotation.advance(now=now)
        await service.keys.reload(now=NOW + 61)
        signed = thief.header + b"." + TokenTerms(issuer=ISSUER).payload(ADA, now=step.due_at - 10)
        stolen = signed + b"." + thief.private.sign(signed)

        assert service.verify(stolen, now=step.due_at - 0.1)
        with pytest.raises(InvalidToken, match="expired"):
            service.verify(stolen, now=step.due_at)
        await service.keys.reload(now=step.due_at)
        with pytest.raises(InvalidToken, match="unknown_key"):
            service.verify(stolen, now=step.due_at)
        assert not service.names_our_key(stolen)

    @pytest.mark.requirement("SEC-09")
    async def test_no_token_is_refused_whatever_processes_have_read_by_then(self, store, rotation):
        """Three processes read the keys at their own times, at most an interval apart, through a whole rotation."""
        services = [await process(store, now=NOW, lifetime=600) for _ in range(3)]
        tokens: list[tuple[float, str]] = []
        done: list[str] = []
        for second in range(0, 6000, 5):
            now = NOW + second
            if second % 120 == 60 and "retired" not in done:
                done.append((await rotation.advance(now=now)).step)
            for number, service in enumerate(services):
                if second % RELOAD == number * 10:
                    await service.keys.reload(now=now)
                if second % 50 == 0:
                    tokens.append((now, service.issue(ADA, now=now)))
            tokens = [(made, token) for made, token in tokens if made + 600 > now]
            for service in services:
                for _, token in tokens:
                    assert service.verify(token, now=now).sub == ADA.sub
        assert done == ["published", "promoted", "retired"]
        assert len({kid(token) for _, token in tokens}) == 1

    async def test_a_rotation_that_is_over_is_followed_by_the_next(self, store, rotation):
        await process(store, now=NOW)
        steps = [(await rotation.advance(now=NOW + 100 * count)).step for count in range(6)]
        assert steps == ["published", "promoted", "retired"] * 2
        assert [row.status for row in await store.keys()] == ["retired", "retired", "promoted"]

    async def test_a_late_retirement_is_one_at_once(self, store, rotation):
        await process(store, now=NOW)
        for now in (NOW, NOW + 60):
            await rotation.advance(now=now)
        step = await rotation.advance(now=NOW + 86_400)
        assert step.due_at == NOW + 86_400

    async def test_another_algorithm_comes_with_the_next_key(self, store):
        service = await process(store, now=NOW)
        old = service.issue(ADA, now=NOW)
        other = KeyRotation(store, seals("old"), algorithm="EdDSA")
        for now in (NOW + 1, NOW + 61):
            await other.advance(now=now)
        await service.keys.reload(now=NOW + 61)
        new = service.issue(ADA, now=NOW + 61)

        assert [header_of(token)["alg"] for token in (old, new)] == ["ES256", "EdDSA"]
        assert all(service.verify(token, now=NOW + 61) for token in (old, new))
        assert [key["alg"] for key in service.jwks(now=NOW + 61)["keys"]] == ["ES256", "EdDSA"]


class TestReplacingAtOnce:
    async def test_ends_every_token_of_a_key_that_leaked(self, store, rotation):
        service = await process(store, now=NOW)
        old = service.issue(ADA, now=NOW)
        assert service.verify(old, now=NOW + 9)

        step = await rotation.replace(now=NOW + 10)
        await service.keys.reload(now=NOW + 10)
        assert service.keys.in_use.kid == step.kid
        with pytest.raises(InvalidToken, match="unknown_key"):
            service.verify(old, now=NOW + 10)
        assert len(service.jwks(now=NOW + 10)["keys"]) == 1

    async def test_ends_a_key_that_was_published_or_was_to_be_retired_later(self, store, rotation):
        await process(store, now=NOW)
        for now in (NOW, NOW + 60, NOW + 61, NOW + 62):
            await rotation.advance(now=now)
        assert sorted(row.status for row in store.rows.values()) == ["promoted", "published", "retired"]
        step = await rotation.replace(now=NOW + 70)
        ends = {row.kid: row.retire_at for row in store.rows.values()}
        assert ends.pop(step.kid) is None
        assert set(ends.values()) == {NOW + 70}

    async def test_helps_where_no_key_can_be_opened(self, store):
        await process(store, now=NOW)
        await KeyRotation(store, seals("new")).replace(now=NOW + 10)
        keys = SigningKeys(store, seals("new"))
        await keys.load(now=NOW + 10)
        assert BearerTokens(keys, issuer=ISSUER).issue(ADA, now=NOW + 10)
        assert [one.problem for one in await KeyRotation(store, seals("new")).standings(now=NOW + 10)] == [
            None
        ] * 2


class TestSeveralAtOnce:
    async def test_two_operators_promote_a_key_once(self, store, rotation):
        await process(store, now=NOW)
        await rotation.advance(now=NOW)

        class Slow(KeysInMemory):
            async def keys(self):
                rows = await store.keys()
                await asyncio.sleep(0)  # both have read before either writes
                return rows

            promote = store.promote

        others = [KeyRotation(Slow(), seals("old")) for _ in range(2)]
        answers = await asyncio.gather(*(one.advance(now=NOW + 60) for one in others), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == ["RotationConflict", "RotationStep"]
        assert str(next(one for one in answers if isinstance(one, RotationConflict))).startswith(
            "another process"
        )

    async def test_keys_that_two_operators_published_come_into_use_one_after_the_other(self, store, rotation):
        service = await process(store, now=NOW)
        for number in range(2):
            await store.publish(new_key(seals("old"), "ES256", now=NOW + number))
        steps = [(await rotation.advance(now=NOW + 100 + count)).step for count in range(4)]
        assert steps == ["promoted", "promoted", "retired", "retired"]
        await service.keys.reload(now=NOW + 104)
        assert store.rows[service.keys.in_use.kid].promoted_at == NOW + 101

    def test_all_processes_agree_which_key_signs_when_two_were_promoted_in_the_same_instant(self):
        rows = [new_key(seals("old"), "ES256", now=NOW, is_first=True) for _ in range(3)]
        signers = {promoted_last(order) for order in itertools.permutations(rows)}
        assert signers == {max(rows, key=lambda row: row.kid)}


class TestMasterKeys:
    """The secret keys that seal the signing keys are exchanged as well."""

    async def test_sealing_again_lets_the_old_master_key_go(self, store):
        service = await process(store, now=NOW)
        token = service.issue(ADA, now=NOW)
        rotation = KeyRotation(store, seals("new", "old"))
        assert [one.is_current for one in await rotation.standings(now=NOW)] == [False]

        assert await rotation.reseal() == 1
        assert await rotation.reseal() == 0
        assert [one.is_current for one in await rotation.standings(now=NOW)] == [True]
        keys = SigningKeys(store, seals("new"))
        await keys.load(now=NOW)
        assert BearerTokens(keys, issuer=ISSUER).verify(token, now=NOW).sub == ADA.sub

    async def test_a_process_that_still_has_the_old_order_opens_them_too(self, store):
        await process(store, now=NOW)
        await KeyRotation(store, seals("new", "old")).reseal()
        await SigningKeys(store, seals("old", "new")).load(now=NOW)

    @pytest.mark.requirement("SEC-09")
    @pytest.mark.parametrize("purpose", [one for one in Purpose if one.verb in ("mac", "seal")])
    def test_every_key_for_macs_and_seals_goes_through_the_same_three_steps(self, purpose):
        before, accepted, promoted, retired = (
            BoundKeys(ring(*ids), purpose) for ids in (("old",), ("old", "new"), ("new", "old"), ("new",))
        )
        assert accepted.keyring.statuses() == (KeyStatus("old", "in use"), KeyStatus("new", "accepted"))
        assert promoted.keyring.statuses() == (KeyStatus("new", "in use"), KeyStatus("old", "accepted"))
        if purpose.verb == "mac":
            made = before.mac(b"message")
            assert made[0] == "old"
            counts = [
                keys.verify(made[0], b"message", made[1]) for keys in (before, accepted, promoted, retired)
            ]
            assert counts == [True, True, True, False]
        else:
            sealed = before.seal(b"seed", b"ada")
            assert [keys.open(sealed, b"ada") for keys in (before, accepted, promoted)] == [b"seed"] * 3
            with pytest.raises(BrokenSeal, match="unknown_key"):
                retired.open(sealed, b"ada")

    @pytest.mark.requirement("SEC-09")
    def test_cookie_tokens_go_through_the_same_three_steps(self):
        steps = [
            CookieTokens(mac_keys(*ids), issuer=ISSUER)
            for ids in (("old",), ("old", "new"), ("new", "old"), ("new",))
        ]
        tokens = [one.issue(ADA, now=NOW) for one in steps]
        assert [kid(token) for token in tokens] == ["old", "old", "new", "new"]
        for reader, neighbours in ((0, (0, 1)), (1, (0, 1, 2)), (2, (1, 2, 3)), (3, (2, 3))):
            assert all(steps[reader].verify(tokens[maker], now=NOW) for maker in neighbours)


class TestStandings:
    async def test_show_where_each_key_stands(self, store, rotation):
        service = await process(store, now=NOW)
        first = service.keys.in_use.kid
        (one,) = await rotation.standings(now=NOW)
        assert (one.kid, one.alg, one.status, one.is_in_use, one.problem) == (
            first,
            "ES256",
            "promoted",
            True,
            None,
        )
        for now in (NOW + 1, NOW + 61, NOW + 62):
            await rotation.advance(now=now)
        old, new = await rotation.standings(now=NOW + 62)
        assert (old.status, old.is_in_use, old.retire_at) == ("retired", False, NOW + 61 + OVERLAP_SECONDS)
        assert (new.status, new.is_in_use, new.promoted_at, new.retire_at) == (
            "promoted",
            True,
            NOW + 61,
            None,
        )

    async def test_name_a_key_that_cannot_be_used_until_its_time_is_over(self, store, rotation):
        await process(store, now=NOW)
        evil = dataclasses.replace(
            new_key(seals("old"), "ES256", now=NOW + 1), status="promoted", promoted_at=NOW + 2
        )
        store.rows[evil.kid] = evil
        good, bad = await rotation.standings(now=NOW + 3)
        assert (good.is_in_use, good.problem) == (True, None)
        assert (bad.is_in_use, bad.problem) == (False, "sealed value refused: not_genuine")
        store.rows[evil.kid] = dataclasses.replace(evil, status="retired", retire_at=NOW + 3)
        assert [one.problem for one in await rotation.standings(now=NOW + 3)] == [None, None]

    async def test_the_clock_is_asked_where_no_time_is_given(self, store, rotation):
        keys = SigningKeys(store, seals("old"))
        await keys.load()
        assert (await rotation.advance()).step == "published"
        assert (await rotation.advance()).step == "waiting"
        assert (await rotation.replace()).step == "promoted"
        assert [one.problem for one in await rotation.standings()] == [None] * 3
