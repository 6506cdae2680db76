"""What is in a job: sealed, bound to it, and readable through an exchange of keys."""

import pytest

from thebes.accounts.jobs import JobFailed, JobSeals
from thebes.secret import Secret
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.secrets.strength import SecretKey
from thebes.stores.jobs import Job, NewJob

FAR = 2_000_000_000.0
CANARY = "c4n4ry-0f-a-t0k3n"


class TestSeals:
    def test_the_content_comes_back_and_is_not_in_the_job(self, seals: JobSeals) -> None:
        new = seals.new_job("mail", CANARY.encode(), expires_at=FAR)
        assert CANARY not in repr(new)
        assert seals.open(taken(new)) == CANARY.encode()

    @pytest.mark.parametrize(
        "change", [{"id": "other"}, {"kind": "hook"}, {"sealed": "v1.k1.AAAA"}, {"sealed": ""}]
    )
    def test_a_content_counts_in_its_own_job_only(self, seals: JobSeals, change: dict[str, str]) -> None:
        new = seals.new_job("mail", b"content", expires_at=FAR, job_id="one")
        with pytest.raises(JobFailed) as refused:
            seals.open(taken(new, **change))
        assert refused.value.reason == "unreadable"
        assert not refused.value.is_final

    def test_a_content_outlives_the_exchange_of_keys(self, seals: JobSeals) -> None:
        new = seals.new_job("mail", b"content", expires_at=FAR)
        rotated = Keyring(
            (SecretKey("k2", Secret(bytes(range(1, 33)))), SecretKey("k1", Secret(bytes(range(32)))))
        )
        assert JobSeals(BoundKeys(rotated, Purpose.JOBS)).open(taken(new)) == b"content"
        alone = Keyring((SecretKey("k2", Secret(bytes(range(1, 33)))),))
        with pytest.raises(JobFailed):
            JobSeals(BoundKeys(alone, Purpose.JOBS)).open(taken(new))


def taken(new: NewJob, **changes: str) -> Job:
    values = {
        "id": new.id,
        "kind": new.kind,
        "sealed": new.sealed,
        "attempts": 1,
        "expires_at": new.expires_at,
    }
    return Job(**(values | changes))  # type: ignore[arg-type]
