"""Cores and memory as the operating system tells them, and the lanes that follow."""

from pathlib import Path

import pytest

from thebes.errors import ConfigurationError
from thebes.passwords import PRESETS, Argon2, Bcrypt, Lanes, Machine
from thebes.passwords.lanes import share_of_lanes

MIB = 2**20
V2 = "0::/app.slice/web.service\n"
V1 = "5:memory:/docker/7f\n4:cpu,cpuacct:/docker/7f\n3:cpuset:/docker/7f\n1:name=systemd:/docker/7f\n"


def tree(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{key}": text for key, text in files.items()},
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cores", "memory"),
    [
        pytest.param("", {}, 8, None, id="no cgroups"),
        pytest.param(V2, {}, 8, None, id="cgroups without files"),
        pytest.param(
            "0::/\n",
            {"cpu.max": "200000 100000\n", "memory.max": "536870912\n"},
            2,
            512 * MIB,
            id="v2 in a container",
        ),
        pytest.param(
            "0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, 8, None, id="v2 without limits"
        ),
        pytest.param("0::/\n", {"cpu.max": "50000 100000\n"}, 1, None, id="half a core is one"),
        pytest.param("0::/\n", {"cpu.max": "390000 100000\n"}, 3, None, id="whole cores only"),
        pytest.param("0::/\n", {"cpu.max": "9900000 100000\n"}, 8, None, id="affinity is smaller"),
        pytest.param(
            V2,
            {
                "app.slice/web.service/cpu.max": "max 100000\n",
                "app.slice/web.service/memory.max": "1073741824\n",
                "app.slice/cpu.max": "300000 100000\n",
                "app.slice/memory.max": "268435456\n",
            },
            3,
            256 * MIB,
            id="v2, the group above is narrower",
        ),
        pytest.param(
            V2,
            {"app.slice/web.service/memory.max": "134217728\n", "app.slice/memory.max": "268435456\n"},
            8,
            128 * MIB,
            id="v2, the group itself is narrower",
        ),
        pytest.param(
            "0::/../../elsewhere\n",
            {"cpu.max": "300000 100000\n", "../../elsewhere/cpu.max": "100000 100000\n"},
            3,
            None,
            id="v2, a path out of our view",
        ),
        pytest.param(
            V1,
            {
                "memory/memory.limit_in_bytes": "134217728\n",
                "cpu/cpu.cfs_quota_us": "150000\n",
                "cpu/cpu.cfs_period_us": "50000\n",
            },
            3,
            128 * MIB,
            id="v1 in a container, which sees its own group only",
        ),
        pytest.param(
            V1,
            {
                "memory/docker/7f/memory.limit_in_bytes": "134217728\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "cpu/docker/7f/cpu.cfs_quota_us": "-1\n",
                "cpu/docker/7f/cpu.cfs_period_us": "100000\n",
            },
            8,
            128 * MIB,
            id="v1 on the host, no quota",
        ),
        pytest.param(
            V1, {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8, None, id="v1 without limits"
        ),
        pytest.param(
            "4:cpu,cpuacct:/web\n0::/web\n",
            {
                "unified/web/memory.max": "67108864\n",
                "cpu/web/cpu.cfs_quota_us": "100000\n",
                "cpu/web/cpu.cfs_period_us": "100000\n",
            },
            1,
            64 * MIB,
            id="both versions at once",
        ),
        pytest.param(
            "0::/\n", {"cpu.max": "much\n", "memory.max": "\xff"}, 8, None, id="files that say nothing"
        ),
    ],
)
def test_what_a_process_may_use(tmp_path, cgroup, files, cores, memory):
    assert Machine.read(root=tree(tmp_path, cgroup, files), affinity=8) == Machine(cores, memory)


def test_the_affinity_of_this_process_counts():
    import os

    assert 1 <= Machine.read().cores <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cores", "workers", "shares"),
    [
        (1, 1, [1]),
        (2, 1, [1]),
        (2, 2, [1, 1]),
        (4, 1, [3]),
        (8, 2, [3, 3]),
        (8, 3, [2, 2, 1]),
        (8, 4, [1, 1, 1, 1]),
        (8, 5, [1, 1, 1, 1, 1]),
        (2, 8, [1] * 8),
        (64, 4, [15, 15, 15, 15]),
        (11, 4, [2, 2, 2, 1]),
    ],
)
def test_lanes_are_cores_less_workers_shared_out_and_at_least_one_each(cores, workers, shares):
    machine = Machine(cores, None)
    assert [
        share_of_lanes(Argon2(), workers=workers, worker=one, machine=machine) for one in range(workers)
    ] == shares
    assert share_of_lanes(Argon2(), workers=workers, machine=machine) == min(shares)
    assert Lanes.of_worker(Argon2(), workers=workers, worker=0, machine=machine).count == shares[0]


class TestMemory:
    def test_a_quarter_of_the_limit_is_enough_exactly(self):
        assert share_of_lanes(Argon2(), machine=Machine(5, 4 * 4 * 64 * MIB)) == 4
        with pytest.raises(ConfigurationError):
            share_of_lanes(Argon2(), machine=Machine(5, 4 * 4 * 64 * MIB - 4))

    def test_too_little_stops_the_start_with_the_numbers_and_the_smaller_preset(self):
        with pytest.raises(ConfigurationError) as refused:
            share_of_lanes(Argon2(), workers=4, machine=Machine(16, 512 * MIB))
        assert str(refused.value) == (
            "12 hashing lanes of 64 MiB need 768 MiB, but a quarter of the memory limit of 512 MiB is 128 MiB: "
            'choose passwords="19MiB", raise the limit, or take fewer workers than 4'
        )

    def test_the_smaller_preset_is_not_advised_to_who_has_it(self):
        with pytest.raises(ConfigurationError) as refused:
            share_of_lanes(PRESETS["19MiB"], machine=Machine(16, 512 * MIB))
        assert "19MiB" not in str(refused.value)

    def test_it_is_counted_over_all_workers(self):
        machine = Machine(4, 4 * 3 * 64 * MIB)
        share_of_lanes(Argon2(), workers=3, machine=machine)
        with pytest.raises(ConfigurationError, match="4 hashing lanes"):
            share_of_lanes(Argon2(), workers=4, machine=machine)

    def test_functions_without_memory_fit_anywhere(self):
        assert share_of_lanes(Bcrypt(), machine=Machine(4, 16 * MIB)) == 3

    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_worker_is_no_service(self, workers):
        with pytest.raises(ConfigurationError):
            share_of_lanes(Argon2(), workers=workers)
