"""Nothing tells which accounts exist, and nothing shows a password."""

import ast
import hashlib
import hmac
import statistics
import time
import traceback

import pytest
from argon2.exceptions import HashingError

from package import SOURCE
from thebes.passwords import (
    Argon2,
    Bcrypt,
    BreachesUnavailable,
    Lanes,
    LanesBusy,
    PasswordPolicy,
    PasswordTooLong,
    Verdict,
)
from thebes.passwords.formats import read

GOOD = "seven lamps over the quay"
# Of costs that no setting allows, so that the tests are quick: as others made them.
BCRYPT_10 = "$2b$10$YqV5tWQKutciBX2weRbFleM2l4haA/cm49D9MzXWnk3giiVmMIxgy"  # bcrypt 4.0.1
BCRYPT_10_OF_108_BYTES = "$2b$10$oeJIaO3UmEB5oG0GEewkJ.u6TmQRqNYjD3JxyQzIl8F8nKvj1SO5m"  # bcrypt 4.0.1
OF_BCRYPT = "Grüße, Ada! 42 tea"
OF_108_BYTES = "correct horse battery staple " * 4


class FixedPepper:
    """One key, as a service might hold it."""

    in_use = "k1"

    def mac(self, message: bytes) -> tuple[str, bytes]:
        return self.in_use, hmac.digest(b"\x5b" * 32, message, "sha256")

    def mac_with(self, key_id: str, message: bytes) -> bytes | None:
        return self.mac(message)[1] if key_id == self.in_use else None


class TestUnknownAccounts:
    @pytest.mark.parametrize("stored", [None, "", "!", "md5$x$y", "\0", "$argon2id$", "x" * 10_000])
    async def test_nobody_and_what_cannot_be_read_never_match(self, passwords, stored):
        for password in ("", GOOD, stored or "None"):
            assert await passwords.verify(password, stored) == Verdict(is_match=False)

    async def test_what_cannot_be_read_is_reported_and_nobody_is_not(self, make):
        said = []
        passwords = make(report=lambda event, *, reason: said.append((event, reason)))
        await passwords.verify(GOOD, None)
        assert said == []
        await passwords.verify(GOOD, "!")
        assert said == [("password_hash_unreadable", "malformed")]

    @pytest.mark.parametrize("pepper", [None, FixedPepper()], ids=["bare", "peppered"])
    async def test_the_decoy_has_the_cost_the_key_and_the_form_of_a_new_hash(self, make, pepper):
        for cost in ("test", Bcrypt(10)):
            passwords = make(cost=cost, pepper=pepper)
            decoy, new = passwords._decoy(), read(await passwords.hash(GOOD))
            assert (decoy.cost, decoy.key_id) == (new.cost, new.key_id)
            assert (len(decoy.salt), len(decoy.digest)) == (len(new.salt), len(new.digest))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("cost", "password"),
        [
            pytest.param("19MiB", GOOD, id="argon2"),
            pytest.param("19MiB", "e\u0301" * 20, id="argon2, not composed"),
            pytest.param(Bcrypt(10), "x" * 100, id="bcrypt, over 72 bytes"),
        ],
    )
    async def test_it_costs_as_much_as_a_wrong_password(self, make, cost, password):
        """CVE-2025-22234: a check of the length told in no time which accounts exist."""
        passwords = make(cost=cost)
        real = await passwords.hash("another one entirely")

        async def cost_of(stored: str | None) -> float:
            began = time.process_time()
            assert not (await passwords.verify(password, stored)).is_match
            return time.process_time() - began

        known, unknown, broken = [], [], []
        for _ in range(11):
            known.append(await cost_of(real))
            unknown.append(await cost_of(None))
            broken.append(await cost_of("md5$tea$time"))
        assert 0.8 < statistics.median(unknown) / statistics.median(known) < 1.25
        assert 0.8 < statistics.median(broken) / statistics.median(known) < 1.25


class TestCanary:
    """No error, repr or report that shows locals of ours shows the password (PWD-26)."""

    CANARY = "canary-5bd1-of-the-quay"

    def shown(self, error: BaseException) -> str:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
        # The frames of this file hold the canary: only those of the package are looked at.
        for one in (found, *filter(None, (found.__cause__, found.__context__))):
            for frame in list(one.stack):
                if "/tests/" in frame.filename:
                    one.stack.remove(frame)
        return "".join(found.format()) + repr(error) + str(error)

    async def test_not_when_the_lanes_are_busy(self, make):
        passwords = make(lanes=Lanes(1))
        await passwords.lanes.close()
        for call in (
            passwords.hash(self.CANARY),
            passwords.verify(self.CANARY, None),
            passwords.verify(self.CANARY, BCRYPT_10),
        ):
            with pytest.raises(LanesBusy) as busy:
                await call
            assert len(traceback.extract_tb(busy.value.__traceback__)) > 2
            assert "canary" not in self.shown(busy.value)

    async def test_not_when_it_is_too_long(self, make):
        for passwords in (make(), make(cost=Bcrypt(10))):
            with pytest.raises(PasswordTooLong) as error:
                await passwords.hash(self.CANARY * 20)
            assert "canary" not in self.shown(error.value)

    async def test_not_when_the_hash_itself_fails(self, make):
        """As on a machine that is out of memory: the library says no."""
        passwords = make()
        passwords.cost = Argon2(passes=0)
        with pytest.raises(HashingError) as error:
            await passwords.hash(self.CANARY)
        assert "canary" not in self.shown(error.value)

    async def test_not_when_breaches_cannot_be_looked_up(self, make):
        class Away:
            async def knows(self, sha1):
                raise BreachesUnavailable("timeout")

        passwords = make(policy=PasswordPolicy(breaches=Away(), is_strict=True))
        with pytest.raises(BreachesUnavailable) as error:
            await passwords.judge(self.CANARY)
        shown = self.shown(error.value)
        assert "_is_breached" in shown
        assert "canary" not in shown
        assert hashlib.sha1(self.CANARY.encode()).hexdigest().upper() not in shown

    async def test_not_in_a_verdict_or_refusal(self, passwords):
        verdict = await passwords.verify(OF_BCRYPT, BCRYPT_10)
        assert verdict.new_hash not in repr(verdict)
        assert OF_BCRYPT not in repr(verdict)


def test_digests_are_compared_in_constant_time_only():
    """A comparison by == ends at the first byte that differs (PWD-23)."""
    module = ast.parse((SOURCE / "passwords" / "formats.py").read_text(encoding="utf-8"))
    compared = [
        ast.unparse(node)
        for node in ast.walk(module)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and ("digest" in ast.unparse(node) or "computed" in ast.unparse(node))
    ]
    assert compared == []
    assert "is_equal(computed, self.digest)" in ast.unparse(module)
