"""`fgaug gan metrics` and `select`: what is compared, what the table keeps, what is chosen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_grid import phantom_dataset

from fgaug import quality
from fgaug.analysis.published.thesis_networks import WEIGHTS, beside_thesis
from fgaug.bank.resize import fit_to_bank
from fgaug.core import files
from fgaug.data import Dataset, open_dataset
from fgaug.errors import DataError, SnapshotError, UserError
from fgaug.quality.features import networks
from fgaug.quality.features.networks import FeatureNetwork
from fgaug.quality.snapshots import table
from fgaug.quality.snapshots.measure import SnapshotOptions, measure_snapshots, snapshots_of
from fgaug.quality.snapshots.select import select_snapshot
from gan_worker import load_generator
from gan_worker.files.snapshot import Snapshot, write_safetensors
from gan_worker.networks import GeneratorConfig, GeneratorNetwork
from gan_worker.training.images import training_images, write_trained_on

Fgaug = Callable[..., tuple[int, str, str]]
CONFIG = GeneratorConfig(
    resolution=32,
    img_channels=1,
    labels=0,
    z_dim=4,
    w_dim=6,
    widths=(4, 4, 4, 4),
    mapping_layers=2,
    mapping_width=6,
)


def network_file(path: Path, seed: int, **changes: Any) -> Path:
    """Write a network of random weights."""
    torch.manual_seed(seed)
    config = dataclasses.replace(CONFIG, **changes)
    tensors = GeneratorNetwork(config).state_dict()
    tensors |= {k: v + 0.5 for k, v in tensors.items() if k.endswith("noise_strength")}
    snapshot = Snapshot(
        sha256="",
        kind="fgaug",
        config=config,
        tensors={k: v.contiguous() for k, v in tensors.items()},
    )
    write_safetensors(snapshot, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("metrics")
    return open_dataset(phantom_dataset(folder, images=120, test=0.2))


class _Pooled(torch.nn.Module):
    """Means of 8 x 8 px: a feature network that takes no time."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images.float() / 255, 8)[:, 0].flatten(1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> FeatureNetwork:
    """Put a feature network that takes no time in the place of the asked one."""
    network = FeatureNetwork(
        _Pooled(), name="pooled", sha256="0123456789" * 6, side=32, words="means", device="cpu"
    )
    monkeypatch.setattr(networks, "load_network", lambda *_: network)
    return network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a training's folder with four snapshots, and what else lies there."""
    root = tmp_path / "training"
    root.mkdir()
    for kimg in (0, 4, 8, 12):
        network_file(root / f"network-{kimg:06d}.safetensors", seed=kimg)
    (root / "state.safetensors").write_bytes(b"not a network")
    return root


def how(data: Dataset, **changes: Any) -> SnapshotOptions:
    return SnapshotOptions(**{"dataset": data.root, "label": "trv", "images": 40, **changes})


class TestMeasured:
    def test_numbers_are_of_the_training_images_and_of_fakes_without_truncation(
        self, data: Dataset, folder: Path, quick: FeatureNetwork
    ) -> None:
        file = folder / "network-000004.safetensors"
        (row,) = measure_snapshots([file], how(data))
        mine = data.manifest[data.manifest[["split", "label"]].eq(["train", "trv"]).all(axis=1)]
        mine = mine.sort_values("sha256")
        real = quick.features(data.pixels()[mine.index])
        fakes = load_generator(file, noise_mode="seeded").generate(range(1, 41), 1.0)
        fake = quick.features(fakes)
        expected = quality.measures_of(real, fake)
        for name, value in expected.items():
            assert row[name] == pytest.approx(value), name
        floor = quality.real_floor(real, 40, groups=mine["group"])
        assert row["n_real"] == len(real)
        assert (row["floor_n_reference"], row["floor_n_sample"], row["floor_by"]) == (
            floor.n_reference,
            floor.n_sample,
            "group",
        )
        assert row["features"] == "pooled-01234567@32"
        assert row["kid_subset_size"] == min(len(real), 40)
        assert (row["kimg"], row["psi"], row["noise"], row["class"]) == (4, 1.0, "seeded", None)

    @pytest.mark.parametrize("noise", ["const", "none"])
    def test_noise_is_as_asked(
        self, data: Dataset, tmp_path: Path, quick: FeatureNetwork, noise: str
    ) -> None:
        file = network_file(tmp_path / "a.safetensors", 1)
        (row,) = measure_snapshots([file], how(data, noise=noise))
        assert row["noise"] == noise
        (other,) = measure_snapshots([file], how(data))
        assert row["fid"] != other["fid"]

    def test_fakes_get_the_reals_size_and_channels(
        self, data: Dataset, tmp_path: Path, quick: FeatureNetwork
    ) -> None:
        file = network_file(
            tmp_path / "a.safetensors", 1, resolution=64, widths=(4,) * 5, img_channels=3
        )
        (row,) = measure_snapshots([file], how(data))
        images = training_images(data, ["trv"])
        real = quick.features(images.take(np.arange(len(images))))
        fakes = load_generator(file, noise_mode="seeded").generate(range(1, 41), 1.0)
        fake = quick.features(fit_to_bank(fakes, 32, 1))
        assert row["fid"] == pytest.approx(quality.fid(real, fake))

    def test_steps_of_making_images_change_nothing(
        self, data: Dataset, tmp_path: Path, quick: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b"):
            network_file(tmp_path / f"{name}.safetensors", 1)
        told: list[tuple[int, int]] = []
        (one,) = measure_snapshots([tmp_path / "a.safetensors"], how(data))
        monkeypatch.setattr("fgaug.quality.snapshots.measure._STEP", 7)
        (two,) = measure_snapshots(
            [tmp_path / "b.safetensors"], how(data), lambda *count: told.append(count)
        )
        assert one["fid"] == pytest.approx(two["fid"])
        n = one["n_real"]
        assert told == [(n, n + 40), *((n + min(k, 40), n + 40) for k in range(7, 43, 7))]

    def test_images_with_gan_flag_alone_where_there_are_flags(
        self, data: Dataset, tmp_path: Path, quick: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rng = np.random.default_rng(1)
        flagged = data.manifest.assign(gan=rng.random(len(data)) < 0.7)
        changed = dataclasses.replace(data, manifest=flagged)
        monkeypatch.setattr("fgaug.data.open_dataset", lambda _: changed)
        file = network_file(tmp_path / "a.safetensors", 1)
        (row,) = measure_snapshots([file], how(data))
        train = flagged[(flagged["split"] == "train") & (flagged["label"] == "trv")]
        assert row["n_real"] == train["gan"].sum() < len(train)


class _Columns(torch.nn.Module):
    """Means of image columns: a second network, of another length."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() / 255)[:, 0].mean(dim=1)


def stand_in(asked: str, device: str, option: str = "--features") -> FeatureNetwork:
    """Return a network that takes no time, under the name and digest of the published one."""
    name = asked.partition(":")[0]
    module = _Columns() if name == "vgg16" else _Pooled()
    sha256 = WEIGHTS[name].ljust(64, "0")
    return FeatureNetwork(
        module, name=name, sha256=sha256, side=32, words=f"{name}'s", device="cpu"
    )


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> dict[str, FeatureNetwork]:
    """Put networks that take no time in the place of Inception and VGG16."""
    monkeypatch.setattr(networks, "load_network", stand_in)
    return {name: stand_in(name, "cpu") for name in ("inception", "vgg16")}


PAIR = {"features": "inception:i.pth", "pr_features": "vgg16:v.pth"}


OTHER = {"features": "inception-0123abcd@299", "pr_features": "vgg16-397923af@224"}


class TestTwoNetworks:
    def test_each_number_comes_from_its_own_network(
        self, data: Dataset, folder: Path, two: dict[str, FeatureNetwork]
    ) -> None:
        file = folder / "network-000004.safetensors"
        told: list[tuple[int, int]] = []
        (row,) = measure_snapshots([file], how(data, **PAIR), lambda *count: told.append(count))
        images = training_images(data, ["trv"])
        pixels = images.take(np.arange(len(images)))
        fakes = load_generator(file, noise_mode="seeded").generate(range(1, 41), 1.0)
        for name, measures in (("inception", ("fid", "kid")), ("vgg16", ("precision", "recall"))):
            real, fake = two[name].features(pixels), two[name].features(fakes)
            floor = quality.real_floor(real, 40, groups=images.table["group"])
            expected, same = (
                quality.measures_of(real, fake),
                quality.at_sizes_of(floor, real, fake),
            )
            for each in measures:
                assert row[each] == pytest.approx(expected[each]), each
                assert row[f"{each}_at_floor"] == pytest.approx(same.mean[each]), each
                assert row[f"floor_{each}"] == pytest.approx(floor.values.mean[each]), each
        assert (row["features"], row["pr_features"]) == (
            "inception-6726825d@32",
            "vgg16-397923af@32",
        )
        assert (row["features_described"], row["pr_features_described"]) == (
            "inception's",
            "vgg16's",
        )
        n = row["n_real"]
        assert told[0] == (n, 2 * (n + 40))
        assert told[-1] == (2 * (n + 40), 2 * (n + 40))

    def test_one_network_by_name_twice_gives_the_row_of_one(
        self, data: Dataset, folder: Path, quick: FeatureNetwork
    ) -> None:
        file = folder / "network-000004.safetensors"
        (one,) = measure_snapshots([file], how(data))
        (same,) = measure_snapshots([file], how(data, pr_features="lite0"))
        assert same is not one
        assert same == one
        assert one["pr_features"] == one["features"]

    def test_a_pair_is_another_row_of_the_table(
        self, data: Dataset, folder: Path, two: dict[str, FeatureNetwork]
    ) -> None:
        file = folder / "network-000004.safetensors"
        measure_snapshots([file], how(data, features=PAIR["features"]))
        measure_snapshots([file], how(data, **PAIR))
        assert [row["pr_features"][:5] for row in table.read_rows(folder)] == ["incep", "vgg16"]
        with pytest.raises(SnapshotError, match=r"pr_features: inception.*--pr-features"):
            select_snapshot(folder, "thesis")
        assert select_snapshot(folder, "thesis", pr_features="vgg16").note == ""
        found = select_snapshot(folder, "thesis", pr_features="inception")
        assert "here they come from inception and inception" in found.note
        assert select_snapshot(folder, "breast", pr_features="inception").note == ""

    def test_a_table_from_before_the_pair_still_opens(
        self, data: Dataset, folder: Path, quick: FeatureNetwork
    ) -> None:
        (row,) = measure_snapshots([folder / "network-000004.safetensors"], how(data))
        older = {name: value for name, value in row.items() if not name.startswith("pr_")}
        (folder / "metrics.json").write_text(json.dumps({"metrics_version": 1, "rows": [older]}))
        (read,) = table.read_rows(folder)
        assert (read["pr_features"], read["pr_features_described"]) == (
            row["features"],
            row["features_described"],
        )
        assert measure_snapshots([folder / "network-000004.safetensors"], how(data)) == [read]
        assert select_snapshot(folder, "thesis").row["snapshot"] == row["snapshot"]

    def test_the_thesis_s_rule_from_the_command_line(
        self, fgaug: Fgaug, data: Dataset, odd_root: Path, two: dict[str, FeatureNetwork]
    ) -> None:
        for kimg in (4, 8):
            network_file(odd_root / f"network-{kimg:06d}.safetensors", seed=kimg)
        code, out, err = fgaug(
            *("gan", "metrics", odd_root, "--dataset", data.root, "--label", "trv"),
            *("--images", 24, "--features", "inception:i.pth", "--pr-features", "vgg16:v.pth"),
            *("--beside", "thesis"),
        )
        assert (code, err) == (0, "")
        heads = [line.split() for line in out.splitlines() if line.count("@32") == 4]
        assert len(heads) == 2, "one per table"
        for head in heads:
            named = [word for word in head if "@32" in word]
            assert named == ["6726825d@32"] * 2 + ["397923af@32"] * 2
        assert "inception-6726825d@32: inception's; vgg16-397923af@32: vgg16's" in out
        (published,) = (line for line in out.splitlines() if "thesis, trv" in line)
        assert {"1,656", "17.49", "0.6609", "0.2850"} <= set(published.split())
        assert "thesis, dbp" not in out, "the label has its own network"
        assert "Not comparable" not in out
        code, out, err = fgaug("gan", "select", odd_root, "--rule", "thesis")
        assert (code, err) == (0, "")
        assert "note:" not in out
        assert "of the 4 of lowest FID, the highest precision" in out

    def test_published_numbers_beside_other_networks_say_so(
        self, fgaug: Fgaug, tmp_path: Path
    ) -> None:
        folder = tmp_path / "t"
        table_of(folder, *TestRules.NUMBERS, label="benign", n_real=30, n_fake=5000)
        code, out, err = fgaug("gan", "select", folder, "--rule", "thesis", "--beside", "thesis")
        assert (code, err) == (0, "")
        assert "note: the thesis took FID from inception and precision from vgg16" in out
        assert "Not comparable: FID by lite0-57934424@224, not inception" in " ".join(out.split())
        assert [f"thesis, {name}" in out for name in ("dbp", "trv")] == [True, True]
        other = table_of(tmp_path / "o", *TestRules.NUMBERS, n_real=30, n_fake=5000, **OTHER)
        assert (
            "by inception-0123abcd@299, whose weights are not 6726825d"
            in beside_thesis(other).note
        )
        code, _, err = fgaug("gan", "select", folder, "--rule", "thesis", "--beside", "breast")
        assert (code, err) == (2, "fgaug: --beside must be thesis, got breast.\n")

    def test_weights_that_are_not_there_name_file_and_cure(
        self, fgaug: Fgaug, data: Dataset, folder: Path
    ) -> None:
        asked = ("gan", "metrics", folder, "--dataset", data.root, "--label", "trv")
        for option, name, file in (
            ("--features", "inception", "weights-inception-2015-12-05-6726825d.pth"),
            ("--pr-features", "vgg16", "vgg16-397923af.pth"),
        ):
            code, _, err = fgaug(*asked, option, f"{name}:gone.pth")
            assert code == 2
            assert f"{option} {name}:FILE: gone.pth is not a file. fgaug downloads no" in err
            assert file in err
            code, _, err = fgaug(*asked, option, name)
            assert code == 2
            assert f"{option} must be lite0, inception:FILE" in err
            assert file in err
        assert not (folder / "metrics.json").exists()


class TestClasses:
    CONDITIONAL: dict[str, Any] = {"labels": 2, "embed_width": 6}  # noqa: RUF012  # read only

    def test_from_the_record_of_training(
        self, data: Dataset, tmp_path: Path, quick: FeatureNetwork
    ) -> None:
        file = network_file(tmp_path / "both.safetensors", 1, **self.CONDITIONAL)
        with pytest.raises(
            SnapshotError, match=r"2 classes, and no training record.*--class 0 to --class 1"
        ):
            measure_snapshots([file], how(data))
        write_trained_on(file, training_images(data, ["dbp", "trv"]))
        (row,) = measure_snapshots([file], how(data))
        assert row["class"] == 1
        (same,) = measure_snapshots([file], how(data, class_index=1))
        assert same == row
        (other,) = measure_snapshots([file], how(data, class_index=0))
        assert other["fid"] != row["fid"]

    def test_that_are_not_the_network_s(
        self, data: Dataset, tmp_path: Path, quick: FeatureNetwork
    ) -> None:
        file = network_file(tmp_path / "both.safetensors", 1, **self.CONDITIONAL)
        with pytest.raises(SnapshotError, match="classes 0 to 1, but --class is 2"):
            measure_snapshots([file], how(data, class_index=2))
        file = network_file(tmp_path / "one.safetensors", 1)
        with pytest.raises(SnapshotError, match="has no classes, but --class is 0"):
            measure_snapshots([file], how(data, class_index=0))


class TestTable:
    def test_what_is_known_is_not_measured_again(
        self, data: Dataset, folder: Path, quick: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = measure_snapshots([folder], how(data))
        assert [row["kimg"] for row in first] == [0, 4, 8, 12]
        network_file(folder / "network-000008.safetensors", seed=99)
        loaded: list[str] = []

        def load(path: Path, **options: Any) -> Any:
            loaded.append(path.name)
            return load_generator(path, **options)

        monkeypatch.setattr("gan_worker.load_generator", load)
        second = measure_snapshots([folder], how(data))
        assert loaded == ["network-000008.safetensors"], "its file is another now"
        assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False, True]
        assert measure_snapshots([folder], how(data)) == second
        assert len(loaded) == 1

    def test_other_measurements_stay(
        self, data: Dataset, folder: Path, quick: FeatureNetwork
    ) -> None:
        measure_snapshots([folder], how(data))
        measure_snapshots([folder], how(data, label="dbp"))
        file = folder / "network-000004.safetensors"
        measure_snapshots([file], how(data, images=30))
        rows = table.read_rows(folder)
        assert len(rows) == 9
        frame = pd.read_csv(folder / "metrics.csv")
        assert len(frame) == 9
        assert set(frame["n_fake"]) == {30, 40}
        assert frame["kimg"].dtype == np.int64
        stored = json.loads((folder / "metrics.json").read_text())
        assert [row["fid"] for row in stored["rows"]] == pytest.approx(frame["fid"].tolist())

    def test_rows_are_kept_as_they_come(
        self, data: Dataset, folder: Path, quick: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Path] = []

        def load(path: Path, **options: Any) -> Any:
            if len(made) == 2:
                raise KeyboardInterrupt
            made.append(path)
            return load_generator(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr("gan_worker.load_generator", load)
            with pytest.raises(KeyboardInterrupt):
                measure_snapshots([folder], how(data))
        assert len(table.read_rows(folder)) == 2
        assert len(measure_snapshots([folder], how(data))) == 4

    @pytest.mark.parametrize("text", ["{", "[]", '{"rows": 3}', '{"rows": [{"fid": 1}]}'])
    def test_a_table_that_is_none(
        self, data: Dataset, folder: Path, quick: FeatureNetwork, text: str
    ) -> None:
        (folder / "metrics.json").write_text(text)
        with pytest.raises(SnapshotError, match=r"metrics\.json"):
            measure_snapshots([folder], how(data))
        assert (folder / "metrics.json").read_text() == text


class TestRefused:
    def test_places_without_networks(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        gone = tmp_path / "gone.pkl"
        with pytest.raises(
            SnapshotError, match=r"empty has no network-.*gone\.pkl does not exist"
        ):
            snapshots_of([tmp_path / "empty", gone])

    def test_before_anything_is_computed(
        self, data: Dataset, folder: Path, quick: FeatureNetwork
    ) -> None:
        bad = folder / "network-000016.safetensors"
        bad.write_bytes(b"damaged")
        with pytest.raises(SnapshotError, match=r"000016.*was refused"):
            measure_snapshots([folder], how(data))
        with pytest.raises(UserError, match="--images must be above 3"):
            measure_snapshots([folder], how(data, images=3))
        with pytest.raises(DataError, match='no label "trw", did you mean'):
            measure_snapshots([folder], how(data, label="trw"))
        with pytest.raises(UserError, match="device must be cpu, cuda"):
            measure_snapshots([folder], how(data, device="tpu"))
        assert not (folder / "metrics.json").exists()


def table_of(folder: Path, *numbers: tuple[float, float, float], **changes: Any) -> list[Any]:
    """Write a table of (FID, precision, recall), one snapshot each, and return its rows."""
    folder.mkdir(exist_ok=True)
    for index, (fid, precision, recall) in enumerate(numbers):
        file = folder / f"network-{index:06d}.safetensors"
        if not file.exists():
            network_file(file, seed=index)
        head = {name: 1 for name in table.SAME}
        head |= {
            "label": "trv",
            "class": None,
            **dict.fromkeys(("features", "pr_features"), "lite0-57934424@224"),
            "noise": "seeded",
        }
        head |= {"snapshot": file.name, "kimg": index, "sha256": files.sha256_of(file)}
        shown = {
            "dataset": "data/x",
            **dict.fromkeys(("features_described", "pr_features_described"), "words"),
            "psi": 1.0,
            "floor_by": "group",
            "floor_n_reference": 9,
            "floor_n_sample": 9,
            "floor_cuts": 10,
        }
        for name in ("fid", "kid", "precision", "recall"):
            shown |= {f"{name}_at_floor": 1.0, f"{name}_at_floor_sd": 0.1}
            shown |= {f"floor_{name}": 1.0, f"floor_{name}_sd": 0.1}
        found = {"fid": fid, "kid": fid / 1000, "precision": precision, "recall": recall}
        table.add_row(folder, {**head, **shown, **found, **changes})
    return table.read_rows(folder)


class TestRules:
    NUMBERS = (
        (30.0, 0.9, 0.1),  # its precision is best, and four have a lower FID
        (12.0, 0.5, 0.3),
        (11.0, 0.6, 0.2),
        (10.0, 0.4, 0.4),
        (14.0, 0.7, 0.1),
    )

    @pytest.mark.parametrize(
        ("rule", "among", "kimg", "words"),
        [
            ("thesis", None, 4, "of the 4 of lowest FID, the highest precision"),
            ("thesis", 3, 2, "of the 3 of lowest FID, the highest precision"),
            ("breast", None, 3, "the lowest FID"),
            ("lowest-fid", None, 3, "the lowest FID"),
            ("lowest-kid", None, 3, "the lowest KID"),
            ("highest-precision", None, 0, "the highest precision"),
            ("highest-recall", None, 3, "the highest recall"),
            ("highest-recall", 1, 3, "of the 1 of lowest FID, the highest recall"),
        ],
    )
    def test_choose(
        self, tmp_path: Path, rule: str, among: int | None, kimg: int, words: str
    ) -> None:
        rows = table_of(tmp_path / "t", *self.NUMBERS)
        row, found = table.chosen(rows, rule, among)
        assert (row["kimg"], found) == (kimg, words)

    def test_of_equals_the_lower_fid_then_the_earlier(self, tmp_path: Path) -> None:
        rows = table_of(tmp_path / "t", (2.0, 0.5, 0.5), (1.0, 0.5, 0.5), (1.0, 0.5, 0.5))
        for rule in table.RULES:
            assert table.chosen(rows, rule)[0]["kimg"] == 1

    def test_that_are_none(self, tmp_path: Path) -> None:
        rows = table_of(tmp_path / "t", *self.NUMBERS)
        with pytest.raises(SnapshotError, match="one of thesis, breast"):
            table.chosen(rows, "best")
        with pytest.raises(SnapshotError, match="at least 1, got 0"):
            table.chosen(rows, "thesis", 0)


class TestSelected:
    def test_a_copy_with_its_record(self, tmp_path: Path, data: Dataset) -> None:
        folder, out = tmp_path / "t", tmp_path / "nets" / "trv.safetensors"
        table_of(folder, *TestRules.NUMBERS)
        best = folder / "network-000004.safetensors"
        write_trained_on(best, training_images(data, ["trv"]))
        found = select_snapshot(folder, "thesis", out=out)
        assert found.file == out
        assert out.read_bytes() == best.read_bytes()
        record, copy = (f.with_suffix(".trained_on.parquet") for f in (best, out))
        assert copy.read_bytes() == record.read_bytes()
        assert len(found.rows) == 5
        with pytest.raises(SnapshotError, match="exists"):
            select_snapshot(folder, "breast", out=out)
        with pytest.raises(SnapshotError, match=r"must end in \.safetensors"):
            select_snapshot(folder, "breast", out=tmp_path / "x.pkl")
        out.unlink()
        with pytest.raises(SnapshotError, match=r"trained_on\.parquet exists"):
            select_snapshot(folder, "breast", out=out)

    def test_without_out_nothing_is_written(self, tmp_path: Path) -> None:
        folder = tmp_path / "t"
        table_of(folder, *TestRules.NUMBERS)
        before = sorted(tmp_path.rglob("*"))
        found = select_snapshot(folder, "breast")
        assert found.file == folder / "network-000003.safetensors"
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_file_that_is_gone_or_another(self, tmp_path: Path) -> None:
        folder = tmp_path / "t"
        table_of(folder, *TestRules.NUMBERS)
        network_file(folder / "network-000003.safetensors", seed=77)
        with pytest.raises(SnapshotError, match=r"was measured as network .* is now .*"):
            select_snapshot(folder, "breast")
        (folder / "network-000003.safetensors").unlink()
        with pytest.raises(SnapshotError, match="no longer exists"):
            select_snapshot(folder, "breast")

    def test_rows_that_do_not_compare(self, tmp_path: Path) -> None:
        folder = tmp_path / "t"
        table_of(folder, *TestRules.NUMBERS)
        table_of(folder, *TestRules.NUMBERS[::-1], features="vgg16-aaaa@224")
        table_of(folder, *TestRules.NUMBERS, label="dbp")
        with pytest.raises(
            SnapshotError, match=r"different settings.*label: dbp, trv; features: lite0"
        ):
            select_snapshot(folder, "breast")
        assert select_snapshot(folder, "breast", label="trv", features="lite0").row["kimg"] == 3
        assert select_snapshot(folder, "breast", features="vgg16").row["kimg"] == 1
        with pytest.raises(SnapshotError, match="no measured snapshot with noise const"):
            select_snapshot(folder, "breast", noise="const")
        with pytest.raises(SnapshotError, match="Measure them: `fgaug gan metrics"):
            select_snapshot(tmp_path, "breast")


class TestCommands:
    def test_from_snapshots_to_the_chosen_one(
        self, fgaug: Fgaug, data: Dataset, odd_root: Path, tmp_path: Path
    ) -> None:
        """End to end, by the packaged network."""
        for kimg in (4, 8):
            network_file(odd_root / f"network-{kimg:06d}.safetensors", seed=kimg)
        code, out, err = fgaug(
            "gan",
            "metrics",
            odd_root,
            "--dataset",
            data.root,
            "--label",
            "trv",
            "--images",
            24,
        )
        assert (code, err) == (0, "")
        assert out.count("57934424@224") == 9, "at every number, and with its description"
        assert "network-000004.safetensors" in out
        assert "24 fakes (z_seeds 1-24, psi 1, noise seeded) against" in out
        assert "reals against reals" in out
        assert "split by patient" in out
        rows = table.read_rows(odd_root)
        best = min(rows, key=lambda row: row["fid"])
        copy = tmp_path / "trv.safetensors"
        code, out, err = fgaug("gan", "select", odd_root, "--rule", "breast", "--out", copy)
        assert (code, err) == (0, "")
        marked = [line for line in out.splitlines() if "*" in line]
        assert [best["snapshot"] in line for line in marked] == [True, True]
        assert out.splitlines()[-2:] == ["rule breast: the lowest FID", str(copy)]
        assert copy.read_bytes() == (odd_root / best["snapshot"]).read_bytes()

    def test_mistakes_end_in_one_message(
        self, fgaug: Fgaug, tmp_path: Path, data: Dataset
    ) -> None:
        code, _, err = fgaug("gan", "select", tmp_path, "--rule", "breast")
        assert code == 2
        assert err.count("\n") == 1
        code, _, err = fgaug("gan", "metrics", tmp_path, "--dataset", data.root, "--label", "trv")
        assert code == 2
        assert "has no network-" in err
