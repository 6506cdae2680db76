"""What a presented refresh token means: every row of the table, its conditions and its bounds."""

import dataclasses

import pytest

from refreshing import AWAY, DAY, GRACE, HOME, NOW, OTHER_BROWSER, OWNER, session_row, tokens_of
from thebes.tokens.judgement import Candidate, Case, Judgement, RefreshEvent, judge

SESSION = "c2Vzc2lvbiBvZiBhZGEgMDAx"
TOKENS = tokens_of(SESSION, 8)
CURRENT = TOKENS[5]
BRANCH = tokens_of(SESSION, 8)  # the same generations of another history: genuine, with other random bits
CANDIDATE = Candidate(token="next", digest=b"d" * 32, sealed="v1.sealed next")
ROW = session_row(CURRENT, successor="v1.sealed current")


def asked(presented, **changes):
    """Return the judgement on a token that comes 10 seconds after the rotation, to `POST /auth/refresh`."""
    row = changes.pop("row", ROW)
    owner = changes.pop("owner", OWNER)
    now = changes.pop("now", NOW + 10)
    case = Case(
        presented=presented,
        mode=changes.pop("mode", "cookie"),
        circumstances=changes.pop("where", HOME),
        step=(step := changes.pop("step", "refresh")),
        grace=changes.pop("grace", GRACE),
        candidate=None if step == "arrival" else CANDIDATE,
    )
    return judge(case, dataclasses.replace(row, **changes) if row else None, owner, now)


def summary(judgement: Judgement):
    """Return what a row of the table says: the answer, the event, and why the session ended if it did."""
    event = judgement.event and judgement.event.name
    ended = judgement.change and judgement.change.revoked_for
    return judgement.kind, judgement.reason, event, ended


ROTATED = ("rotated", None, None, None)
KEPT = ("kept", None, None, None)
SUCCESSOR = ("successor", None, None, None)
STRANGE = ("successor", None, "refresh_strange", None)
OVERTAKEN = ("refused", "overtaken", None, None)
THEFT = ("refused", "reused", "reuse_detected", "reused")
LOST = ("refused", "unconfirmed", "refresh_unconfirmed", "unconfirmed")
ROLLED_BACK = ("refused", "rolled_back", "store_rolled_back", None)

SEEN = {"presented_at": NOW + 1}

# presented token, seconds since the rotation, what differs: the answers on arrival, at the start of that
# request's own answer, and to POST /auth/refresh.
TABLE = [
    pytest.param(CURRENT, 0, {}, KEPT, KEPT, KEPT, id="current, just made"),
    pytest.param(CURRENT, 29.9, {}, KEPT, KEPT, KEPT, id="current, younger than the grace"),
    pytest.param(CURRENT, 29.9, SEEN, KEPT, KEPT, KEPT, id="current, younger, presented before"),
    pytest.param(CURRENT, -3600, {}, KEPT, KEPT, KEPT, id="current, and the clock was set back"),
    pytest.param(CURRENT, 30, {}, KEPT, ROTATED, ROTATED, id="current, as old as the grace"),
    pytest.param(CURRENT, 6 * DAY, {}, KEPT, ROTATED, ROTATED, id="current, older than the grace"),
    pytest.param(CURRENT, 0, {"grace": 0.0}, KEPT, ROTATED, ROTATED, id="current, just made, no grace"),
    pytest.param(CURRENT, 40, {"where": AWAY}, KEPT, ROTATED, ROTATED, id="current, from elsewhere"),
    pytest.param(TOKENS[4], 0, {}, SUCCESSOR, SUCCESSOR, SUCCESSOR, id="predecessor, at once"),
    pytest.param(TOKENS[4], 29.9, SEEN, SUCCESSOR, SUCCESSOR, SUCCESSOR, id="predecessor, in the grace"),
    pytest.param(TOKENS[4], -9, {}, SUCCESSOR, SUCCESSOR, SUCCESSOR, id="predecessor, clock set back"),
    pytest.param(TOKENS[4], 5, {"where": AWAY}, SUCCESSOR, STRANGE, STRANGE, id="predecessor, elsewhere"),
    pytest.param(
        TOKENS[4], 5, {"where": OTHER_BROWSER}, SUCCESSOR, STRANGE, STRANGE, id="predecessor, another agent"
    ),
    pytest.param(TOKENS[4], 30, SEEN, THEFT, OVERTAKEN, THEFT, id="predecessor, late, successor presented"),
    pytest.param(TOKENS[4], 0, SEEN | {"grace": 0.0}, THEFT, OVERTAKEN, THEFT, id="the same without grace"),
    pytest.param(TOKENS[4], 30, {}, LOST, OVERTAKEN, LOST, id="predecessor, late, successor never presented"),
    pytest.param(TOKENS[4], 0, {"grace": 0.0}, LOST, OVERTAKEN, LOST, id="at once, no grace, unconfirmed"),
    pytest.param(TOKENS[4], 30, {"where": AWAY}, THEFT, OVERTAKEN, THEFT, id="late, unconfirmed, elsewhere"),
    pytest.param(
        TOKENS[4], 30, {"where": OTHER_BROWSER}, THEFT, OVERTAKEN, THEFT, id="late, unconfirmed, another agent"
    ),
    pytest.param(TOKENS[3], 0, {}, THEFT, OVERTAKEN, THEFT, id="two generations old, in the grace"),
    pytest.param(TOKENS[3], 40, {}, THEFT, OVERTAKEN, THEFT, id="two generations old, late"),
    pytest.param(TOKENS[0], 40, SEEN, THEFT, OVERTAKEN, THEFT, id="the session's first"),
    pytest.param(TOKENS[6], 0, {}, ROLLED_BACK, ROLLED_BACK, ROLLED_BACK, id="one generation newer"),
    pytest.param(TOKENS[7], 40, SEEN, ROLLED_BACK, ROLLED_BACK, ROLLED_BACK, id="two generations newer"),
    pytest.param(BRANCH[5], 0, {}, ROLLED_BACK, ROLLED_BACK, ROLLED_BACK, id="of the same generation"),
    pytest.param(BRANCH[5], 40, SEEN, ROLLED_BACK, ROLLED_BACK, ROLLED_BACK, id="the same, late"),
]  # fmt: skip


@pytest.mark.parametrize(("presented", "age", "changes", "on_arrival", "at_answer", "on_refresh"), TABLE)
class TestTheTable:
    def test_on_arrival(self, presented, age, changes, on_arrival, at_answer, on_refresh):
        judgement = asked(presented, now=NOW + age, step="arrival", **changes)
        assert summary(judgement) == on_arrival
        if judgement.change is not None:
            assert judgement.change.revoked_at == NOW + age

    def test_at_the_start_of_the_answer(self, presented, age, changes, on_arrival, at_answer, on_refresh):
        judgement = asked(presented, now=NOW + age, step="renewal", **changes)
        assert summary(judgement) == at_answer
        assert judgement.change is None or judgement.change.revoked_at is None

    def test_at_the_refresh_endpoint(self, presented, age, changes, on_arrival, at_answer, on_refresh):
        judgement = asked(presented, now=NOW + age, **changes)
        assert summary(judgement) == on_refresh
        if judgement.event is not None:
            assert judgement.event == RefreshEvent(judgement.event.name, ROW.account_id, SESSION)

    def test_a_setting_of_no_grace_holds_for_sessions_that_were_opened_with_one(
        self, presented, age, changes, on_arrival, at_answer, on_refresh
    ):
        """And the other way round: a setting gives nobody more than the session has."""
        for step in ("arrival", "renewal", "refresh"):
            strict = {"grace": 0.0} | {key: value for key, value in changes.items() if key != "grace"}
            row = dataclasses.replace(ROW, grace=0.0)
            by_setting = asked(presented, now=NOW + age, step=step, **strict)
            by_row = asked(presented, now=NOW + age, step=step, **{**strict, "grace": GRACE, "row": row})
            assert summary(by_setting) == summary(by_row)
            assert by_setting.kind != "successor"
            assert by_setting.kind != "kept" or step == "arrival"


ENDS = [
    pytest.param({"revoked_at": NOW, "revoked_for": "signed_out"}, "revoked", id="revoked"),
    pytest.param({"mode": "bearer"}, "mode", id="another way of travelling"),
    pytest.param({"owner": dataclasses.replace(OWNER, is_enabled=False)}, "disabled", id="account disabled"),
    pytest.param({"owner": dataclasses.replace(OWNER, epoch=4)}, "epoch", id="the account's epoch rose"),
    pytest.param({"owner": dataclasses.replace(OWNER, epoch=2)}, "epoch", id="the account was set back"),
    pytest.param({"expires_at": NOW - 3600}, "expired", id="over"),
    pytest.param({"used_at": NOW - 8 * DAY}, "idle", id="unused for too long"),
    pytest.param({"row": None}, "unknown", id="no such session"),
    pytest.param({"owner": None}, "unknown", id="no such account"),
]


@pytest.mark.parametrize(("changes", "reason"), ENDS)
def test_every_row_needs_a_session_that_lives(changes, reason):
    """Nothing is written and nothing told, whatever the token: there is no session left to protect."""
    for row in TABLE:
        presented, age = row.values[:2]
        for step in ("arrival", "renewal", "refresh"):
            judgement = asked(presented, now=NOW + age, step=step, **dict(changes))
            assert judgement == Judgement("refused", reason), (row.id, step)


class TestTheWholeLifetime:
    @pytest.mark.parametrize(("now", "kind"), [(NOW + DAY - 0.1, "rotated"), (NOW + DAY, "refused")])
    def test_ends_at_its_instant_whatever_the_activity(self, now, kind):
        assert asked(CURRENT, now=now, used_at=now, expires_at=NOW + DAY).kind == kind

    @pytest.mark.requirement("TOK-22")
    def test_is_never_extended(self):
        """Refreshed every hour, the session ends 30 days after it began."""
        row, now, rotations = dataclasses.replace(ROW, created_at=NOW, expires_at=NOW + 30 * DAY), NOW, 0
        while True:
            now += 3600
            presented = dataclasses.replace(CURRENT, generation=row.generation, digest=row.digest)
            judgement = asked(presented, row=row, now=now)
            if judgement.kind == "refused":
                break
            row, rotations = judgement.change, rotations + 1
            assert row.expires_at == NOW + 30 * DAY
        assert (judgement.reason, now, rotations) == ("expired", NOW + 30 * DAY, 30 * 24 - 1)


class TestTheIdleLimit:
    @pytest.mark.parametrize(
        ("unused", "kind"), [(7 * DAY, "rotated"), (7 * DAY + 0.1, "refused"), (-60, "kept")]
    )
    def test_counts_from_the_last_use(self, unused, kind):
        assert asked(CURRENT, now=NOW + unused).kind == kind

    def test_is_the_session_s_own(self):
        assert asked(CURRENT, now=NOW + 3600, idle_seconds=3600.0).kind == "rotated"
        assert asked(CURRENT, now=NOW + 3601, idle_seconds=3600.0).reason == "idle"

    @pytest.mark.parametrize("presented", [TOKENS[4], CURRENT])
    @pytest.mark.parametrize("step", ["renewal", "refresh"])
    def test_begins_anew_with_each_renewal(self, presented, step):
        assert asked(presented, now=NOW + 20, step=step).change.used_at == NOW + 20
        assert asked(CURRENT, now=NOW + 50, step=step).change.used_at == NOW + 50

    @pytest.mark.parametrize("presented", [TOKENS[4], CURRENT])
    def test_many_tabs_of_one_second_are_one_write(self, presented):
        def change(after):
            return asked(presented, now=NOW + after, used_at=NOW + 10, **SEEN).change

        assert change(10) is change(10.9) is None
        assert change(11).used_at == NOW + 11
        assert change(9) is None  # a clock that was set back doesn't make the use older


class TestARotation:
    def test_puts_the_candidate_in_the_row(self):
        changed = asked(CURRENT, now=NOW + 40, where=AWAY, **SEEN).change
        assert changed == dataclasses.replace(
            ROW,
            generation=6,
            digest=CANDIDATE.digest,
            successor=CANDIDATE.sealed,
            rotated_at=NOW + 40,
            presented_at=None,
            network=AWAY.network,
            agent=AWAY.agent,
            device=AWAY.device,
            address=AWAY.address,
            used_at=NOW + 40,
        )

    @pytest.mark.requirement("TOK-39")
    @pytest.mark.parametrize("presented", [TOKENS[4], CURRENT])
    @pytest.mark.parametrize("age", [10, 40])
    @pytest.mark.parametrize("step", ["renewal", "refresh"])
    def test_never_touches_how_and_when_somebody_authenticated(self, presented, age, step):
        changed = asked(presented, now=NOW + age, step=step).change
        if changed is not None:
            assert (changed.auth_time, changed.amr) == (ROW.auth_time, ROW.amr)
            assert (changed.created_at, changed.epoch, changed.mode) == (ROW.created_at, 3, "cookie")

    def test_is_confirmed_by_the_first_use_of_the_new_token(self):
        changed = asked(CURRENT, now=NOW + 2).change
        assert changed == dataclasses.replace(ROW, presented_at=NOW + 2, used_at=NOW + 2)
        assert asked(CURRENT, now=NOW + 2.5, row=changed).change is None

    def test_is_not_confirmed_by_an_arrival(self):
        """The answer to that request may never be sent, so its tokens may never arrive."""
        assert asked(CURRENT, now=NOW + 2, step="arrival").change is None


class TestAStrangeUse:
    def test_costs_the_session_its_grace_the_second_time(self):
        first = asked(TOKENS[4], where=AWAY)
        assert first.change == dataclasses.replace(
            ROW, strange_uses=1, network=AWAY.network, agent=AWAY.agent, used_at=NOW + 10
        )
        second = asked(TOKENS[4], where=HOME, row=first.change)
        assert summary(second) == STRANGE
        assert second.sealed == ROW.successor
        assert second.change == dataclasses.replace(
            ROW, strange_uses=2, grace=0.0, successor=None, used_at=NOW + 10
        )
        assert summary(asked(TOKENS[4], row=second.change)) == LOST
        assert summary(asked(CURRENT, row=second.change)) == ROTATED

    def test_of_one_place_is_one(self):
        """A phone that has just left its network asks for five images at once, all with the old cookie."""
        row = ROW
        for count in range(5):
            judgement = asked(TOKENS[4], where=AWAY, row=row)
            assert summary(judgement) == (SUCCESSOR if count else STRANGE)
            row = judgement.change or row
        assert (row.strange_uses, row.grace) == (1, GRACE)

    def test_is_remembered_across_rotations(self):
        row = asked(CURRENT, row=asked(TOKENS[4], where=AWAY).change, now=NOW + 40).change
        assert (row.strange_uses, row.network) == (1, HOME.network)
        judgement = asked(CURRENT, row=row, where=AWAY, now=NOW + 41)
        assert summary(judgement) == STRANGE
        assert judgement.change.grace == 0.0

    def test_a_rotation_of_the_keys_moves_nobody(self):
        """The digests of the row were made under a key that is only accepted by now."""
        here = dataclasses.replace(
            HOME,
            network=b"home under the new key",
            agent=b"firefox under the new key",
            earlier_networks=frozenset({HOME.network}),
            earlier_agents=frozenset({HOME.agent}),
        )
        assert summary(asked(TOKENS[4], where=here)) == SUCCESSOR
        assert summary(asked(TOKENS[4], where=here, now=NOW + 40)) == LOST
        elsewhere = dataclasses.replace(here, earlier_networks=frozenset())
        assert summary(asked(TOKENS[4], where=elsewhere, now=NOW + 40)) == THEFT


def test_a_sealed_successor_that_was_cleared_is_given_to_nobody_and_is_no_theft():
    for step in ("arrival", "renewal", "refresh"):
        assert summary(asked(TOKENS[4], successor=None, step=step)) == OVERTAKEN


def test_the_end_of_a_session_clears_the_sealed_successor():
    assert asked(TOKENS[3]).change.successor is None
    assert asked(TOKENS[4], now=NOW + 40).change.successor is None


def test_theft_and_a_store_that_was_set_back_are_errors_in_the_log():
    names = {"reuse_detected": "error", "store_rolled_back": "error", "refresh_unconfirmed": "warning"}
    for name, severity in (names | {"refresh_strange": "warning"}).items():
        assert RefreshEvent(name, "ada", "s1").severity == severity
