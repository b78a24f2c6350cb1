"""What a batch system narrows: cores, memory, GPUs, TMPDIR, HOME, a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_grid import phantom_dataset, write_grid

from fgaug.core import devices
from fgaug.core.machine import cores, folders, limits, narrow_threads
from fgaug.errors import UserError
from fgaug.grid.space import Resources
from fgaug.study.resources import Room, misfits, room_of

ROOT = Path(__file__).parent.parent
RUN = "search: 2 ok, 0 pruned, 0 failed, 0 missing"


def groups(tmp_path: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Write a tree of control groups and what names one of them."""
    root = tmp_path / "cgroup"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    named = tmp_path / "own"
    named.write_text(own + "\n")
    return root, named


V2 = {"cgroup.controllers": "cpu memory"}


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {**V2, "cpu.max": "150000 100000"}, 1.5),
        ("0::/", {**V2, "cpu.max": "max 100000"}, None),
        ("0::/", V2, None),
        # SLURM: the job's limit is that of its steps
        ("0::/job_7/step_0", {**V2, "job_7/cpu.max": "400000 100000"}, 4),
        (
            "0::/job_7/step_0",
            {
                **V2,
                "job_7/cpu.max": "400000 100000",
                "job_7/step_0/cpu.max": "800000 100000",
            },
            4,
        ),
        # a container whose own path is not mounted
        ("0::/docker/ab12", {**V2, "cpu.max": "200000 100000"}, 2),
        # version 1, mounted by both names, by one, and without a quota
        (
            "4:cpu,cpuacct:/a",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/a/cpu.cfs_period_us": "50000",
            },
            1,
        ),
        (
            "4:cpu,cpuacct:/a/b",
            {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "1:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        (
            "3:cpuset:/a",
            {"cpuset/a/cpu.cfs_quota_us": "1", "cpuset/a/cpu.cfs_period_us": "1"},
            None,
        ),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, own: str, files: dict[str, str], quota: float | None
) -> None:
    assert limits.cpu_quota(*groups(tmp_path, own, files)) == quota


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/a/b", {**V2, "a/memory.max": "4000", "a/b/memory.max": "max"}, 4000),
        ("0::/a", {**V2, "memory.max": "9000", "a/memory.max": "8000"}, 8000),
        ("2:memory:/a", {"memory/a/memory.limit_in_bytes": "5000"}, 5000),
        ("2:memory:/a", {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("2:memory:/", {}, None),
    ],
)
def test_limits_of_memory(
    tmp_path: Path, own: str, files: dict[str, str], limit: int | None
) -> None:
    assert limits.memory_limit(*groups(tmp_path, own, files)) == limit


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert limits.cpu_quota(tmp_path / "none", tmp_path / "none either") is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 6), (2.5, 2), (0.5, 1), (64.0, 6)])
def test_cores_are_those_of_mask_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(limits, "cpu_quota", lambda: quota)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cores() == expected
    narrow_threads()
    assert os.environ.get("OMP_NUM_THREADS") == (str(expected) if expected < 6 else None)


def test_a_mask_is_heeded_in_a_dry_run(tmp_path: Path) -> None:
    phantom_dataset(tmp_path)
    path = write_grid(tmp_path)
    first = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{first}}}); import sys; "
        f"sys.argv = ['fgaug', 'search', {str(path)!r}, '--dry-run']; "
        "from fgaug.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "1 trial at once" in done.stdout


class TestRoom:
    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"cpus": 1000}, "--cpus must be from 1 to"),
            ({"cpus": 0}, "--cpus must be from 1 to"),
            ({"gpus": 1000}, "--gpus must be from 0 to 2"),
            ({"gpus": -1}, "--gpus must be from 0 to"),
            ({"cpus": 1, "address": "auto"}, "Give one or the other"),
        ],
    )
    def test_more_than_there_is_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], words: str
    ) -> None:
        monkeypatch.setattr("fgaug.study.resources.visible_gpus", lambda: 2)
        with pytest.raises(UserError, match=words):
            room_of(**{"cpus": None, "gpus": None, "address": None, **asked})

    @pytest.mark.parametrize("asked", [1, 2, 8])
    def test_without_a_gpu_the_message_says_where_to_look(
        self, monkeypatch: pytest.MonkeyPatch, asked: int
    ) -> None:
        monkeypatch.setattr("fgaug.study.resources.visible_gpus", lambda: 0)
        with pytest.raises(UserError, match=r"sees no GPU, got \d+\. Omit --gpus") as caught:
            room_of(None, asked, None)
        assert "CUDA_VISIBLE_DEVICES" in str(caught.value)

    @pytest.mark.parametrize("command", ["search", "confirm"])
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (("--gpus", "0.5"), "set `resources: {gpu: 0.5}` in the grid"),
            (("--cpus", "all"), "must be whole numbers, got all"),
            (("--cpus", "1e9"), "must be whole numbers, got 1e9"),
        ],
    )
    def test_what_is_no_whole_number(
        self, fgaug: Any, tmp_path: Path, command: str, given: tuple[str, str], words: str
    ) -> None:
        arm = ("--arm", "a") if command == "confirm" else ()
        code, _, err = fgaug(command, tmp_path, *arm, *given)
        assert code == 2
        assert words in " ".join(err.split())

    @pytest.mark.parametrize(
        ("resources", "room", "words"),
        [
            (
                Resources(cpu=2, gpu=0),
                (1, 0),
                "2 cores, but there is 1. Set it to 1 or less, or raise",
            ),
            (
                Resources(cpu=3, gpu=0),
                (2, 0),
                "there are 2. Set it to 2 or less, or raise --cpus to 3",
            ),
            (Resources(cpu=9, gpu=0), (1, 0), "or run with more cores"),
            (
                Resources(cpu=1, gpu=2),
                (1, 1),
                "2 GPUs, but there is 1. Set it to 1 or less, or raise",
            ),
            (Resources(cpu=1, gpu=4), (1, 1), "4 GPUs, but there is 1. Set it to 1 or less"),
        ],
    )
    def test_the_cure_depends_on_what_the_flags_left_out(
        self,
        monkeypatch: pytest.MonkeyPatch,
        resources: Resources,
        room: tuple[int, int],
        words: str,
    ) -> None:
        monkeypatch.setattr("fgaug.study.resources.visible_gpus", lambda: 2)
        monkeypatch.setattr("fgaug.study.resources.cores", lambda: 4)
        (problem,) = Room(cpus=room[0], gpus=room[1]).misfits(resources)
        assert words in problem

    def test_all_that_there_is(self) -> None:
        assert room_of(None, None, None) == Room(cpus=cores(), gpus=devices.visible_gpus())
        assert room_of(1, 0, None) == Room(cpus=1, gpus=0)

    @pytest.mark.parametrize(
        ("resources", "problems"),
        [
            (Resources(cpu=2, gpu=0), 0),
            (Resources(cpu=3, gpu=0), 1),
            (Resources(cpu=1, gpu=0.25), 1),
            (Resources(cpu=9, gpu=1), 2),
        ],
    )
    def test_what_does_not_fit(self, resources: Resources, problems: int) -> None:
        assert len(misfits(resources, 2, 0)) == problems
        assert misfits(resources, 16, 4) == []
        assert Room(cpus=2, gpus=0, address="auto").misfits(resources) == []
        assert Room(cpus=2, gpus=0).misfits("auto") == []

    @pytest.mark.parametrize(
        ("resources", "words"),
        [
            ({"gpu": 0.25}, "`resources.gpu` needs 0.25 GPUs, but there are 0"),
            ({"gpu": 1}, "Set it to 0 to train on CPUs"),
            ({"cpu": 5000}, "`resources.cpu` needs 5000 cores"),
        ],
    )
    def test_dry_run_plans_and_refuses_as_the_search_does(
        self,
        fgaug: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        resources: dict[str, float],
        words: str,
    ) -> None:
        monkeypatch.setattr("fgaug.study.resources.visible_gpus", lambda: 0)
        phantom_dataset(tmp_path)
        path = write_grid(tmp_path, resources=resources)
        dry = fgaug("search", path, "--dry-run")
        real = fgaug("search", path, "--out", tmp_path / "run")
        assert (dry[0], dry[2]) == (real[0], real[2])
        assert dry[0] == 2
        assert words in dry[2]
        assert "to train: " in dry[1]  # the plan is for another machine: it is shown all the same
        assert "no estimate, because the trials do not fit this machine" in dry[1]
        assert not (tmp_path / "run").exists()

    def test_another_cluster_is_judged_when_it_is_joined(self, fgaug: Any, tmp_path: Path) -> None:
        phantom_dataset(tmp_path)
        path = write_grid(tmp_path, resources={"cpu": 500})
        code, out, err = fgaug("search", path, "--dry-run", "--address", "10.0.0.1:6379")
        assert code == 0, err
        assert "those of the cluster at 10.0.0.1:6379, known when the search starts" in out

    def test_fewer_cores_by_choice(self, fgaug: Any, tmp_path: Path) -> None:
        phantom_dataset(tmp_path)
        code, out, err = fgaug("search", write_grid(tmp_path), "--dry-run", "--cpus", "1")
        assert code == 0, err
        assert "1 trial at once" in out


class TestFolders:
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("RAY_TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "MPLCONFIGDIR"):
            monkeypatch.setenv(name, "x")  # put back after the test, whatever sets it
            monkeypatch.delenv(name)
        monkeypatch.setenv("TMPDIR", "/tmp")  # as most machines have it
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def test_a_usual_folder_is_left_to_ray(self) -> None:
        assert folders.ray_folder() is None

    @pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
    @pytest.mark.parametrize("fault", ["long", "missing", "file"])
    def test_a_folder_that_ray_cannot_use(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        name: str,
        fault: str,
    ) -> None:
        given = {
            "long": tmp_path / ("job" * 30),
            "missing": Path("/no"),
            "file": Path("/proc/stat"),
        }
        if fault == "long":
            given[fault].mkdir()
        monkeypatch.setenv(name, str(given[fault]))
        found = folders.ray_folder()
        assert found is not None
        assert len(str(found)) <= folders.MAX_FOLDER
        assert f"{name} is not used by Ray" in caplog.text

    def test_no_folder_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folders, "_FALLBACKS", ("/proc/1", "/no"))
        monkeypatch.setenv("TMPDIR", "/no/where")
        with pytest.raises(UserError, match=r"/no/where is not a folder\. Set RAY_TMPDIR to a"):
            folders.ray_folder()

    def test_a_socket_of_ray_fits(self) -> None:
        longest = "/" + "x" * (folders.MAX_FOLDER - 1) + folders._SOCKET
        assert len(longest) == folders.SOCKET_BYTES

    @pytest.mark.parametrize("home", ["/proc/nohome", "/etc/passwd", "/no/such/home"])
    def test_a_home_that_is_none(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, home: str
    ) -> None:
        monkeypatch.setenv("HOME", home)
        folders.settle()
        assert f"HOME ({home}) is not a folder" in caplog.text
        assert folders.can_write(Path.home())
        assert Path.home().stat().st_mode & 0o077 == 0
        folders.settle()
        assert len(caplog.records) == 1

    def test_a_home_that_cannot_be_written(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        tmp_path: Path,
    ) -> None:
        home = tmp_path / "home"
        home.mkdir()
        can = folders.can_write
        monkeypatch.setattr(
            folders, "can_write", lambda folder: not folder.is_relative_to(home) and can(folder)
        )
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("FGAUG_CACHE")
        folders.settle()
        assert Path.home() == home  # weights that are cached there are still found
        assert str(tmp_path / f"fgaug-{os.getuid()}") in os.environ["FGAUG_CACHE"]
        assert "FGAUG_CACHE" in caplog.text
        folders.ray_token()
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert token.stat().st_mode & 0o777 == 0o600
        assert len(token.read_text()) >= 32

    def test_a_user_without_a_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody(*_: object) -> str:
            raise KeyError("getpwuid(): uid not found")

        monkeypatch.setattr("getpass.getuser", nobody)
        monkeypatch.setenv("LOGNAME", "before")
        folders.settle()
        assert os.environ["LOGNAME"] == f"uid{os.getuid()}"

    def test_a_folder_that_somebody_else_made(self, tmp_path: Path) -> None:
        (tmp_path / f"fgaug-{os.getuid()}").symlink_to("/etc")
        found = folders.private_folder()
        assert found.parent == tmp_path
        assert found.name != f"fgaug-{os.getuid()}"


@pytest.mark.ray
def test_a_search_in_a_narrow_place(tmp_path: Path) -> None:
    """One search with all of it: a long TMPDIR, no HOME, one core."""
    phantom_dataset(tmp_path)
    axes = {"mode": ["augmentation"], "psi": [1.0], "ratio": [1], "seed": [1]}
    path = write_grid(tmp_path, axes=axes)
    temporary = tmp_path / "slurm_job_of_a_long_name" / ("step" * 20)
    temporary.mkdir(parents=True)
    command = [sys.executable, "-m", "fgaug", "search", str(path), "--log", "quiet", "--cpus", "1"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "search")],
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "HOME": "/proc/nohome",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert RUN in done.stderr
    assert "Traceback" not in done.stderr
