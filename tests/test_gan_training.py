"""Training of networks: goes on after a kill with the same numbers, alone or together; stops."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fgaug.data import open_dataset
from fgaug.data.prepare import prepare
from fgaug.errors import SnapshotError, TrainingError, UserError
from gan_worker.files.snapshot import read_snapshot
from gan_worker.training import jobs
from gan_worker.training.distributed import Together
from gan_worker.training.folder import TrainingFolder, entries, load_state, save_state
from gan_worker.training.images import Subset, TrainingBatches, training_images
from gan_worker.training.launch import Job, run
from gan_worker.training.options import PRESETS, augmented, resolve
from gan_worker.training.randomness import Chance, Share
from gan_worker.training.trainer import Trainer
from gan_worker.training.transfer import start_from

CPU = torch.device("cpu")
TINY = {
    "batch": 32, "group_size": 4, "fmaps": 0.01, "channel_max": 16, "z_dim": 16, "w_dim": 16,
    "mapping_layers": 2, "kimg": 3, "snapshot_kimg": 1, "augment": "bg", "gamma": 0.1,
    "p": 0.5, "ada_kimg": 10.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gan") / "dataset"
    prepare(out=folder, size=16, preset="phantom", phantom={"images": 80})
    return folder


def options(**changes: Any) -> Any:
    return resolve("auto", resolution=16, img_channels=1, changes={**TINY, **changes})


def job(data: Path, out: Path, **changes: Any) -> Job:
    return Job(
        options=options(**changes), dataset=str(data), split="dataset", labels=("trv",),
        out=str(out),
    )  # fmt: skip


def trainer(data: Path, together: Together | None = None, **changes: Any) -> Trainer:
    chosen = options(**changes)
    images = training_images(open_dataset(data), ["trv"])
    batches = TrainingBatches(images, seed=chosen.seed, mirror=chosen.mirror)
    return Trainer(chosen, batches, CPU, together)


def quiet(_: object) -> None:
    """Tell nothing."""


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "trv"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the others have: sums over more are other sums
    try:
        assert run(job(data, out), jobs.draw, quiet)
    finally:
        torch.set_num_threads(threads)
    return out


class TestFolder:
    def test_every_snapshot_has_its_record_and_its_sheet(self, whole: Path, data: Path) -> None:
        for kimg in (0, 1, 2, 3):
            snapshot = read_snapshot(whole / f"network-{kimg:06d}.safetensors")
            assert (snapshot.resolution, snapshot.channels, snapshot.labels) == (16, 1, 0)
            assert (whole / f"network-{kimg:06d}.trained_on.parquet").is_file()
            assert (whole / f"sheet-{kimg:06d}.png").stat().st_size > 1000
        assert (whole / "reals.png").is_file()
        assert list((whole / "tensorboard").iterdir())

    def test_the_log_tells_where_the_training_stood(self, whole: Path) -> None:
        lines = list(entries(TrainingFolder(whole), math.inf))
        assert [round(line["kimg"]) for line in lines] == [1, 2, 3]
        assert all(line["s_per_kimg"] > 0 for line in lines)
        assert lines[-1]["left_s"] == 0
        losses = {"g", "d_fake", "d_real", "sign_real", "sign_fake", "r1", "path"}
        assert losses <= lines[0]["losses"].keys()
        assert 0 < lines[-1]["p"] < 0.5  # the augmentation moved

    def test_the_options_are_kept_in_full(self, whole: Path) -> None:
        kept = json.loads((whole / "options.json").read_text(encoding="utf-8"))
        assert kept["options"] == dataclasses.asdict(options())
        assert kept["labels"] == ["trv"]

    def test_a_finished_training_trains_no_more(self, whole: Path, data: Path) -> None:
        before = (whole / "state.safetensors").read_bytes()
        assert run(job(data, whole), jobs.draw, quiet)
        assert (whole / "state.safetensors").read_bytes() == before

    def test_another_training_is_refused_by_every_difference(
        self, whole: Path, data: Path
    ) -> None:
        with pytest.raises(UserError, match=r"gamma was 0.1, is 0.3; .*lr was"):
            run(job(data, whole, gamma=0.3, lr=0.1), jobs.draw, quiet)

    def test_a_torn_state_is_refused(self, whole: Path, tmp_path: Path) -> None:
        folder = TrainingFolder(tmp_path)
        tensors, iteration = load_state(TrainingFolder(whole))
        save_state(folder, tensors, iteration)
        data = bytearray(folder.state.read_bytes())
        data[-5] ^= 1
        folder.state.write_bytes(data)
        with pytest.raises(SnapshotError, match="do not match its digest"):
            load_state(folder)
        folder.state.write_bytes(data[:100])
        with pytest.raises(SnapshotError, match="cannot be resumed"):
            load_state(folder)


def start(data: Path, out: Path, **changes: Any) -> subprocess.Popen[bytes]:
    sets = [f"--set={name}={value}" for name, value in {**TINY, **changes}.items()]
    command = ["gan", "train", "--dataset", str(data), "--label", "trv", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "fgaug", *command, "--device", "cpu", *sets],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_killed_twice_a_training_ends_with_the_same_networks(
    whole: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "trv"
    for kimg in (1, 2):
        process = start(data, tmp_path)
        awaited = out / f"network-{kimg:06d}.safetensors"
        deadline = time.monotonic() + 120
        while not awaited.is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert awaited.is_file()
    process = start(data, tmp_path)
    process.communicate()
    assert process.returncode == 0
    for kimg in (1, 2, 3):
        name = f"network-{kimg:06d}.safetensors"
        ours, theirs = read_snapshot(out / name), read_snapshot(whole / name)
        assert ours.sha256 == theirs.sha256, kimg
    assert [round(line["kimg"]) for line in entries(TrainingFolder(out), math.inf)] == [1, 2, 3]


@pytest.mark.slow
def test_ctrl_c_keeps_the_state_and_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    process = start(data, tmp_path, kimg=100, snapshot_kimg=100)
    log = tmp_path / "trv" / "progress.jsonl"
    deadline = time.monotonic() + 120
    while not log.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 3
    assert b"the same command goes on" in told
    assert load_state(TrainingFolder(tmp_path / "trv"))[1] > 30


def _losses(rank: int, world: int, data: Path, place: str, out: Path) -> None:
    """Write the losses of each of 20 steps."""
    torch.set_num_threads(1)
    if world > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=world)
    here = trainer(data, Together(rank, world), ada_kimg=0.2, ada_target=-1.5, lr=0.001)
    told = []
    for _ in range(20):
        here.step()
        told.append({**here.means(), "p": here.ada.p})
    if rank == 0:
        out.write_text(json.dumps(told), encoding="utf-8")
    if world > 1:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(data: Path, tmp_path: Path) -> None:
    for world in (1, 2):
        place = f"file://{tmp_path}/meeting{world}"
        mp.spawn(_losses, (world, data, place, tmp_path / f"{world}.json"), world)
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2))
    assert len(one) == 20
    assert any(step["p"] > 0 for step in one)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name] == pytest.approx(b[name], abs=1e-4) for name in a), (a, b)


def test_shares_of_a_batch_keep_groups_whole_and_miss_no_row() -> None:
    rows = torch.arange(16)
    parts = [Share(rank=rank, world=2, group_size=4).of(rows) for rank in (0, 1)]
    assert sorted(torch.cat(parts).tolist()) == rows.tolist()
    groups = {frozenset(rows[first::4].tolist()) for first in range(4)}
    ours = {frozenset(part[first::2].tolist()) for part in parts for first in (0, 1)}
    assert ours == groups
    with pytest.raises(ValueError, match="cannot be divided"):
        Share(rank=0, world=3, group_size=4).of(rows)


def test_chance_follows_from_seed_iteration_and_phase_alone() -> None:
    def drawn(*place: Any) -> list[float]:
        return Chance(*place, CPU, Share()).normal(3).tolist()

    assert drawn(1, 5, "r1") == drawn(1, 5, "r1")
    assert len({tuple(drawn(s, i, p)) for s in (1, 2) for i in (1, 2) for p in "ab"}) == 8


def test_the_average_follows_the_networks_half_life(data: Path) -> None:
    here = trainer(data, ema_kimg=0.064, ema_rampup=None)
    weight = here.average.mapping.fc0.weight.clone()
    here.generator.mapping.w_avg.fill_(3)
    here._move_average()
    kept = 0.5 ** (32 / 64)
    expected = kept * weight + (1 - kept) * here.generator.mapping.fc0.weight
    assert torch.allclose(here.average.mapping.fc0.weight, expected)
    assert torch.equal(here.average.mapping.w_avg, here.generator.mapping.w_avg)


def test_the_average_is_the_network_itself_while_nothing_was_shown(data: Path) -> None:
    here = trainer(data, ema_rampup=0.05)
    here.generator.mapping.fc0.weight.data.add_(1)
    here._move_average()
    assert torch.equal(here.average.mapping.fc0.weight, here.generator.mapping.fc0.weight)


def test_a_loss_that_is_no_number_ends_the_training(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"diverged at 1\.\d kimg.*There is no snapshot yet"):
        run(job(data, tmp_path, lr=1e30, gamma=0.0), jobs.draw, quiet)
    assert [path.name for path in TrainingFolder(tmp_path).snapshots()] == [
        "network-000000.safetensors"
    ]


@pytest.mark.slow
def test_images_that_become_alike_end_the_training(
    whole: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gan_worker.training import loop

    spreads = iter([0.0, 60.0, 55.0, 2.0])

    def sheet(self: Any, _: object) -> np.ndarray:
        levels = np.array([0, 2 * next(spreads)], np.uint8)
        return np.tile(levels[:, None, None, None], (16, 16, 16, 1))

    monkeypatch.setattr(loop.Loop, "_sheet_of", sheet)
    message = r"collapsed by 3 kimg: .* vary by 2.00 .* from 60.00.*network-000002"
    with pytest.raises(TrainingError, match=message):
        run(job(data, tmp_path), jobs.draw, quiet)
    assert len(TrainingFolder(tmp_path).snapshots()) == 3


class TestTransfer:
    def test_the_same_network_is_taken_whole(self, whole: Path, data: Path) -> None:
        here = trainer(data)
        facts = start_from(here, whole / "network-000003.safetensors")
        state = read_snapshot(whole / "network-000003.safetensors").tensors
        for name, tensor in here.average.state_dict().items():
            assert torch.equal(tensor, state[name]), name
        assert "discriminator: newly initialised" in facts[1]

    def test_an_official_file_gives_its_discriminator_too(self, data: Path) -> None:
        golden = Path(__file__).parent / "data" / "stylegan2" / "a.pkl"
        here = trainer(data, z_dim=64, w_dim=64, channel_max=32, fmaps=1 / 64)
        generator, discriminator = start_from(here, golden)
        assert "anew" not in generator
        # of 32 px: what takes 16 px images there takes features
        assert (
            "16 tensors copied; 2 newly initialised (b16.fromrgb); 7 of the file" in discriminator
        )

    def test_another_size_and_gray_for_colour_take_what_fits(self, data: Path) -> None:
        golden = Path(__file__).parent / "data" / "stylegan2" / "c.pkl"  # 64 px, colour, labels
        here = trainer(data, z_dim=64, w_dim=64, channel_max=32, fmaps=1 / 32, mapping_layers=4)
        generator, discriminator = start_from(here, golden)
        assert "another number of channels" in generator
        assert "mapping.fc0" in generator  # takes the label too there
        assert "synthesis.b64.conv0" in generator
        assert "4 newly initialised (b16.fromrgb, b4.out)" in discriminator

    def test_gray_of_a_colour_network_is_the_mean_of_its_colours(self) -> None:
        from gan_worker.networks import GeneratorConfig, GeneratorNetwork
        from gan_worker.training.transfer import copy_what_fits

        shape = {"resolution": 8, "labels": 0, "z_dim": 4, "w_dim": 4, "widths": (4, 4)}
        more = {"mapping_layers": 1, "mapping_width": 4}
        colour, gray = (
            GeneratorNetwork(GeneratorConfig(img_channels=channels, **shape, **more))
            for channels in (3, 1)
        )
        copied = copy_what_fits(colour.state_dict(), gray)
        assert copied.fresh == copied.unused == ()
        z = torch.randn(2, 4)
        expected = colour(z, noise="const").mean(dim=1, keepdim=True)
        assert torch.allclose(gray(z, noise="const"), expected, atol=1e-5)

    def test_gray_images_look_to_a_colour_discriminator_as_before(self) -> None:
        from gan_worker.networks.discriminator import DiscriminatorConfig, DiscriminatorNetwork
        from gan_worker.training.transfer import copy_what_fits

        shape = {"resolution": 8, "labels": 0, "widths": (4, 4)}
        colour, gray = (
            DiscriminatorNetwork(DiscriminatorConfig(img_channels=channels, **shape))
            for channels in (3, 1)
        )
        copy_what_fits(colour.state_dict(), gray)
        images = torch.randn(4, 1, 8, 8)
        expected = colour(images.expand(-1, 3, -1, -1))
        assert torch.allclose(gray(images), expected, atol=1e-5)


class TestOptions:
    def test_auto_follows_the_resolution(self) -> None:
        found = resolve("auto", resolution=128, img_channels=1)
        assert (found.batch, found.group_size, found.lr) == (32, 4, 0.0025)
        assert found.mapping_layers == 2
        assert found.gamma == pytest.approx(0.1024)
        assert found.widths == (512, 512, 512, 512, 256, 128)

    def test_the_theses_networks_are_as_published(self) -> None:
        dbp, trv = (
            resolve(f"thesis-{label}", resolution=128, img_channels=1) for label in ("dbp", "trv")
        )
        for found in (dbp, trv):
            assert (found.batch, found.group_size, found.fmaps, found.ema_kimg) == (32, 4, 0.5, 10)
            assert (found.ada_target, found.augment, found.mapping_layers) == (0.5, "bg", 8)
        assert (dbp.gamma, dbp.lr, dbp.mirror) == (0.16, 0.002, False)
        assert (trv.gamma, trv.lr, trv.mirror) == (0.24, 0.001, True)

    def test_the_breast_studys_program_has_no_augmentation(self) -> None:
        found = resolve("stylegan2-config-e", resolution=256, img_channels=1)
        assert (found.augment, found.gamma, found.mirror, found.lr) == ("none", 100, True, 0.002)
        assert found.widths[-1] == 64

    @pytest.mark.parametrize("preset", PRESETS)
    def test_augmentation_is_turned_off_or_on_and_nothing_else(self, preset: str) -> None:
        plain, ada = (
            dataclasses.asdict(
                resolve(preset, resolution=64, img_channels=1, changes=augmented(preset, kind))
            )
            for kind in ("none", "ada")
        )
        assert {name for name in plain if plain[name] != ada[name]} == {"augment", "ada_target"}
        assert (plain["augment"], plain["ada_target"], plain["p"]) == ("none", None, 0)
        own = resolve(preset, resolution=64, img_channels=1)
        if own.augment == "none":
            assert (ada["augment"], ada["ada_target"]) == ("bgc", 0.6)
        else:
            assert ada == dataclasses.asdict(own)

    def test_a_training_from_a_network_adapts_faster(self) -> None:
        found = resolve("auto", resolution=64, img_channels=1, transfer=True)
        assert (found.ada_kimg, found.ema_rampup) == (100, None)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"gama": 1}, "no option gama"),
            ({"batch": 6, "group_size": 4}, "multiple of group_size 4, got 6"),
            ({"lr": 0}, "`lr` must be above 0"),
            ({"augment": "bgcfnc"}, "must be one of none, b, bg, bgc"),
        ],
    )
    def test_what_cannot_be_trained_is_refused(
        self, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            resolve("auto", resolution=64, img_channels=1, changes=changes)

    def test_images_must_be_a_power_of_two(self) -> None:
        with pytest.raises(UserError, match="got 48"):
            resolve("paper256", resolution=48, img_channels=1)

    def test_every_preset_resolves(self) -> None:
        assert {resolve(name, resolution=64, img_channels=3).preset for name in PRESETS} == {
            *PRESETS
        }


@pytest.mark.slow
def test_a_sweep_trains_side_by_side(fgaug: Any, data: Path, tmp_path: Path) -> None:
    sets = [f"--set={name}={value}" for name, value in {**TINY, "kimg": 1}.items()]
    code, out, err = fgaug(
        "gan",
        "train",
        "--dataset",
        data,
        "--out",
        tmp_path,
        "--label",
        "trv",
        "--sweep",
        "gamma=0.1,0.2",
        *sets,
    )
    assert code == 0, err
    places = [tmp_path / "trv" / f"gamma={gamma}" for gamma in (0.1, 0.2)]
    assert all((place / "network-000001.safetensors").is_file() for place in places)
    assert out.splitlines() == list(map(str, places))
    assert "1.0 of 1 kimg" in err


def test_every_label_and_value_of_a_sweep_is_a_training(data: Path, tmp_path: Path) -> None:
    asked = jobs.TrainRequest(
        dataset=data, out=tmp_path, sweep={"gamma": [0.1, 0.2], "lr": [0.001]}
    )
    places = [Path(job.out).relative_to(tmp_path).as_posix() for job in jobs.jobs_of(asked)]
    assert places == [
        f"{label}/gamma={gamma},lr=0.001" for label in ("dbp", "trv") for gamma in (0.1, 0.2)
    ]
    words = jobs.TrainRequest(
        dataset=data, out=tmp_path, labels=["trv"], sweep={"augment": ["none", "bgc"]}
    )
    named = [Path(job.out).name for job in jobs.jobs_of(words)]
    assert named == ["augment=none", "augment=bgc"]


def test_a_training_on_some_images_records_them_and_resumes_as_such(
    fgaug: Any, data: Path, tmp_path: Path
) -> None:
    sets = [
        f"--set={name}={value}" for name, value in {**TINY, "kimg": 1, "augment": "none"}.items()
    ]
    asked = ("gan", "train", "--dataset", data, "--out", tmp_path, "--label", "dbp", *sets)
    code, _, err = fgaug(*asked, "--images", "10")
    assert code == 0, err
    assert "images 10 of each label" in err
    facts = json.loads((tmp_path / "dbp" / "options.json").read_text())
    record = pd.read_parquet(tmp_path / "dbp" / "network-000001.trained_on.parquet")
    assert facts["amount"] == 10
    assert facts["images"] == {"dbp": len(record)}
    subset = Subset(amount=10, seed=facts["options"]["seed"])
    expected = training_images(open_dataset(data), ["dbp"], subset=subset).table
    assert record["sha256"].tolist() == expected["sha256"].tolist()
    code, _, err = fgaug(*asked)
    assert code == 2
    assert "amount was 10.0, is None" in err


def test_a_conditional_network_makes_each_label(fgaug: Any, data: Path, tmp_path: Path) -> None:
    sets = [f"--set={name}={value}" for name, value in {**TINY, "kimg": 1}.items()]
    code, _, err = fgaug(
        "gan", "train", "--dataset", data, "--out", tmp_path, "--conditional", *sets
    )
    assert code == 0, err
    assert read_snapshot(tmp_path / "conditional" / "network-000001.safetensors").labels == 2


def test_a_dry_run_prints_every_number_and_writes_nothing(
    fgaug: Any, data: Path, tmp_path: Path
) -> None:
    code, out, _ = fgaug(
        "gan", "train", "--dataset", data, "--out", tmp_path, "--label", "trv", "--dry-run",
        "--preset", "thesis-trv",
    )  # fmt: skip
    assert code == 0
    count = len(training_images(open_dataset(data), ["trv"]))
    assert f"trv, {count} training images" in out
    assert "gamma 0.24" in out
    assert "lr 0.001" in out
    assert not list(tmp_path.iterdir())


def test_a_wrong_option_ends_with_one_message(fgaug: Any, data: Path, tmp_path: Path) -> None:
    for flags, message in (
        (["--set", "gamma"], "NAME=VALUE"),
        (["--set", "gamma=high"], "gamma must be a number"),
        (["--preset", "best"], "`preset` must be one of"),
        (["--label", "trw"], "trv"),
        (["--augment", "bgc"], "--augment must be none or ada, got bgc"),
        (["--augment", "ada", "--set", "augment=b"], "--augment ada sets augment"),
        (["--augment", "none", "--sweep", "p=0.1,0.2"], "--augment none sets p"),
        (["--images", "0"], "--images must be above 0"),
        (["--images", "9.5"], "--images must be a whole number or a share below 1"),
        (["--images", "9999"], "--images 9999 is more than the"),
    ):
        for dry in ([], ["--dry-run"]):  # refuses what the training would refuse
            code, _, err = fgaug(
                "gan", "train", "--dataset", data, "--out", tmp_path, *flags, *dry
            )
            assert (code, message in err) == (2, True), err
