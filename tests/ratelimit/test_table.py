"""The table under the meters: who gets which cell, and that nobody can aim at another's."""

import subprocess
import sys

import pytest

from thebes.ratelimit import Limit, Rate
from thebes.ratelimit.table import BUCKET, Cells, blake2_hash, keyed_hash


class Marks:
    """The simplest reader: a cell is live while its value is not 0."""

    def __init__(self, cells):
        self.words = cells.words

    def is_live(self, cell, now):
        return self.words[cell + BUCKET] != 0

    def first_dead(self, base, now):
        return next((cell for cell in range(base, base + BUCKET) if not self.is_live(cell, now)), None)

    def clear(self, cell, now):
        self.words[cell + BUCKET] = 0


@pytest.fixture
def cells():
    return Cells(4096, 2)


def use(cells, place):
    """Count a key, as a meter would."""
    cell = cells.settle(place, 0, Marks(cells))
    cells.words[cell + BUCKET] += 1
    return cell


def crowd(cells, size):
    """Return places of one bucket."""
    found = {}
    for number in range(100_000):
        place = cells.place(b"%d" % number, b"network")
        found.setdefault(place.base, []).append(place)
        if len(found[place.base]) == size:
            return found[place.base]
    raise AssertionError("the hash leaves buckets empty")


class TestCells:
    def test_a_key_keeps_its_cell_while_it_is_live_and_others_have_others(self, cells):
        places = [cells.place(b"%d" % number) for number in range(50)]
        first = [use(cells, place) for place in places]

        assert [use(cells, cells.place(b"%d" % number)) for number in range(50)] == first
        assert len(set(first)) == 50

    def test_a_dead_cell_is_a_free_cell(self, cells):
        *sixteen, late = crowd(cells, BUCKET + 1)
        taken = [use(cells, place) for place in sixteen]
        cells.words[taken[7] + BUCKET] = 0

        assert use(cells, late) == taken[7]
        assert cells.overflows == 0

    def test_when_the_bucket_is_full_new_keys_share_their_coarse_cell_and_the_old_keep_theirs(self, cells):
        places = crowd(cells, BUCKET + 3)
        own = [use(cells, place) for place in places[:BUCKET]]
        shared = {use(cells, place) for place in places[BUCKET:]}

        assert len(shared) == 1
        assert shared.isdisjoint(own)
        assert [use(cells, place) for place in places[:BUCKET]] == own
        assert cells.overflows == 3

    def test_a_key_stays_in_its_live_coarse_cell_when_room_returns(self, cells):
        """Else it would begin anew beside the budget that it has used there."""
        *sixteen, late = crowd(cells, BUCKET + 1)
        taken = [use(cells, place) for place in sixteen]
        shared = use(cells, late)
        cells.words[taken[0] + BUCKET] = 0

        assert use(cells, late) == shared
        cells.words[shared + BUCKET] = 0
        assert use(cells, late) == taken[0]

    def test_who_gets_a_cell_finds_nothing_spent_in_it(self, cells):
        *sixteen, late = crowd(cells, BUCKET + 1)
        for base in range(0, len(cells.words), cells.bucket_words):
            for cell in range(base, base + BUCKET):
                cells.words[cell + BUCKET] = 7  # what an unused cell holds may look like anything

        taken = [use(cells, place) for place in (*sixteen, late)]

        assert [cells.words[cell + BUCKET] for cell in taken] == [1] * (BUCKET + 1)
        assert taken[-1] == late.spare

    def test_find_tells_where_a_key_counts_and_gives_nobody_a_cell(self, cells):
        *sixteen, late = crowd(cells, BUCKET + 1)
        taken = [use(cells, place) for place in sixteen]
        before = bytes(cells.buffer)

        assert cells.find(late, 0, Marks(cells)) is None
        assert cells.find(sixteen[3], 0, Marks(cells)) == taken[3]
        assert bytes(cells.buffer) == before

    @pytest.mark.parametrize("words", [2, 3, 12, 102])
    def test_no_cell_of_a_key_or_of_a_network_lies_outside_the_buffer_or_in_the_other_s_part(self, words):
        cells = Cells(64 << 10, words)
        border = cells.count * words
        for number in range(3000):
            place = cells.place(b"%d" % number, b"network of %d" % (number // 7))

            assert place.base % cells.bucket_words == 0
            assert place.base + cells.bucket_words <= border
            assert border <= place.spare < len(cells.words) - BUCKET * (words - 1)
            assert place.spare % cells.bucket_words < BUCKET

    def test_it_never_uses_more_than_it_was_given(self):
        assert len(Cells(64 << 10, 2).buffer) == 64 << 10
        with pytest.raises(ValueError, match="too few"):
            Cells(64, 2)

    def test_it_works_in_any_buffer(self):
        shared = bytearray(4096)
        one, other = (Cells(4096, 2, buffer=shared, key_hash=blake2_hash(b"secret")) for _ in range(2))

        assert use(one, one.place(b"ada")) == use(other, other.place(b"ada"))
        assert shared != bytearray(4096)


class TestKeyHash:
    @pytest.mark.parametrize("make", [keyed_hash, blake2_hash])
    def test_it_depends_on_every_byte_of_the_key_and_on_the_secret(self, make):
        hashed = make(b"secret")

        assert hashed(b"ada") == make(b"secret")(b"ada")
        assert len({hashed(b"ada"), hashed(b"adb"), hashed(b""), make(b"Secret")(b"ada")}) == 4

    @pytest.mark.parametrize("make", [keyed_hash, blake2_hash])
    def test_it_spreads_neighbouring_keys_over_all_buckets(self, make):
        cells = Cells(64 << 10, 2, key_hash=make(b"secret"))
        places = [cells.place(b"192.0.2.%d" % number) for number in range(20_000)]
        buckets = cells.count // BUCKET

        assert len({place.base for place in places}) == buckets
        assert len({place.spare for place in places}) > 0.9 * (len(cells.words) // 2 - cells.count)
        assert len({place.tag for place in places}) > 19_990

    def test_each_table_has_a_secret_of_its_own(self):
        """Who knows the hash can fill the bucket of a victim, or land in its very cell."""
        places = {Limit(Rate("10/minute")).meter.cells.place(b"victim").base for _ in range(8)}

        assert len(places) > 1

    def test_a_fixed_hash_seed_doesn_t_tell_where_keys_lie(self):
        """PYTHONHASHSEED=0 makes the interpreter's own hash the same everywhere."""
        code = (
            "from thebes.ratelimit import Limit, Rate;"
            "print(Limit(Rate('10/minute')).meter.cells.place(b'victim').base)"
        )
        seen = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": "0"},
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
            ).stdout
            for _ in range(3)
        }

        assert len(seen) > 1
