"""`fgaug stage` and `--storage`: copies on a store, complete or invisible, never sent twice."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_bank import STUB_SPEC as SPEC
from small_bank import STUBS
from small_grid import grid, phantom_dataset, write_grid

from fgaug.bank import (
    BankSpec,
    Demand,
    Scorer,
    open_bank,
    open_store,
    read_manifest,
    read_scores,
    write_scores,
)
from fgaug.core import paths, store
from fgaug.core.node_cache import local_file
from fgaug.core.paths import within
from fgaug.core.store import ObjectStore
from fgaug.data import open_dataset
from fgaug.errors import BankError, DataError, GridError, SnapshotError, UserError
from fgaug.grid.load import parse_space
from fgaug.grid.space import Space
from fgaug.runs.trial import run_trial
from fgaug.study import planner, storage
from fgaug.study.generators import label_sources
from fgaug.study.plan import Plan
from fgaug.study.stage import copy_of, stage
from fgaug.training import weights
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import LabelSource, describe
from gan_worker.generators.stylegan2 import load_generator

NETWORK = Path(__file__).parent / "data" / "stylegan2" / "tiny.pkl"
MODEL = "mobilenetv3_small_050"
QUIET = Console(quiet=True)
SCORER = Scorer("classifier", "ab" * 32, ("confidence",))


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the test a node of its own, with an empty cache and locks that settle quickly."""
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_dataset(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the objects that are written, by name."""
    found: Counter[str] = Counter()
    write = ObjectStore.write

    def counted(self: ObjectStore, name: str, data: Any) -> None:
        write(self, name, data)
        found[name] += 1

    monkeypatch.setattr(ObjectStore, "write", counted)
    return found


def demand(first: int, last: int) -> Demand:
    z_seeds = np.arange(first, last + 1)
    return Demand.of((label, psi, z_seeds) for label in STUBS for psi in (0.5, 1.0))


class TestDatasets:
    def test_sent_once_the_manifest_last(
        self, secret_bucket: str, folder: Path, sent: Counter[str], fgaug: Any
    ) -> None:
        place = within(secret_bucket, "datasets/heads")
        code, out, err = fgaug("stage", folder, place)
        assert (code, out) == (0, ""), err
        shown = f"s3://{secret_bucket.split('@')[1].split('?')[0]}/datasets/heads"
        assert err.startswith(f"{shown}: sending ")
        assert "secret" not in err
        assert [*sent] == [
            "pixels/part-00000.parquet",
            "dataset.json",
            "manifest.parquet",
            "files.json",
        ]
        code, out, err = fgaug("stage", folder, place)
        assert (code, err.split(",")[0]) == (0, f"{shown}: complete")
        assert set(sent.values()) == {1}

    def test_resumed(
        self, secret_bucket: str, folder: Path, sent: Counter[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = within(secret_bucket, "datasets/heads")
        with monkeypatch.context() as patch:
            write = ObjectStore.write

            def cut(self: ObjectStore, name: str, data: Any) -> None:
                if name == "manifest.parquet":
                    raise DataError("the store is gone")
                write(self, name, data)

            patch.setattr(ObjectStore, "write", cut)
            with pytest.raises(DataError, match="the store is gone"):
                stage(folder, place, QUIET)
        with pytest.raises(DataError, match=r"manifest\.parquet is missing"):
            open_dataset(place)
        stage(folder, place, QUIET)
        assert set(sent.values()) == {1}  # what was there was compared, not sent again
        assert (open_dataset(place).pixels() == open_dataset(folder).pixels()).all()

    def test_what_differs_is_sent_again(
        self, secret_bucket: str, folder: Path, sent: Counter[str]
    ) -> None:
        place = within(secret_bucket, "datasets/heads")
        stage(folder, place, QUIET)
        there = store.open_store(place, DataError)
        data = (folder / "pixels/part-00000.parquet").read_bytes()
        there.remove("files.json")
        there.write("pixels/part-00000.parquet", data[:-1] + b"?")
        sent.clear()
        stage(folder, place, QUIET)
        assert [*sent] == ["pixels/part-00000.parquet", "files.json"]
        assert (open_dataset(place).pixels() == open_dataset(folder).pixels()).all()

    def test_another_dataset_is_not_overwritten(
        self, secret_bucket: str, folder: Path, tmp_path: Path, fgaug: Any
    ) -> None:
        place = within(secret_bucket, "datasets/heads")
        stage(folder, place, QUIET)
        other = phantom_dataset(tmp_path, images=70)
        code, _, err = fgaug("stage", other, place)
        assert (code, "already holds another dataset" in err) == (2, True)
        assert open_dataset(place).spec == open_dataset(folder).spec

    def test_what_cannot_be_staged(
        self, secret_bucket: str, folder: Path, tmp_path: Path, fgaug: Any
    ) -> None:
        place = within(secret_bucket, "x")
        for source, words in (
            (tmp_path, "is no prepared dataset (dataset.json), no bank (bank.json) and holds no"),
            (tmp_path / "nothing", "does not exist"),
        ):
            code, _, err = fgaug("stage", source, place)
            assert (code, words in err) == (2, True), err
        nowhere = re.sub(r"@bucket-\w+", "@nowhere", secret_bucket)
        code, _, err = fgaug("stage", folder, within(nowhere, "x"))
        assert (code, "The bucket does not exist: create it" in err) == (2, True), err
        assert "secret" not in err


class TestBanks:
    @pytest.fixture
    def bank(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(BankSpec, "shard_rows", 4)
        made = fill(tmp_path / "bank", SPEC, STUBS, demand(1, 10))
        frame = pd.DataFrame({"z_seed": [3, 1], "confidence": [0.3, 0.1]})
        write_scores(
            made.store, Scorer("classifier", "ab" * 32, ("confidence",)), "trv", 0.5, frame
        )
        return tmp_path / "bank"

    def test_whole(self, secret_bucket: str, bank: Path, sent: Counter[str]) -> None:
        place = within(secret_bucket, "banks/heads")
        stage(bank, place, QUIET)
        local, there = open_bank(bank), open_bank(place)
        assert there.spec == local.spec
        assert there.shards == local.shards
        for label, psi in (("trv", 0.5), ("dbp", 1.0)):
            assert (there.read(label, psi, [9, 2]) == local.read(label, psi, [9, 2])).all()
        found = read_scores(there.store, SCORER, "trv", 0.5, [1, 3])
        assert found["confidence"].tolist() == [0.1, 0.3]
        sent.clear()
        stage(bank, place, QUIET)
        assert not {name for name in sent if name != "bank.lock"}

    def test_what_the_other_one_has_is_kept(self, secret_bucket: str, bank: Path) -> None:
        """A shard that the other bank has in part is cut; nothing is stored twice."""
        place = within(secret_bucket, "banks/heads")
        fill(place, SPEC, STUBS, Demand.of([("trv", 0.5, np.array([2, 3, 40]))]))
        stage(bank, place, QUIET)
        there = open_bank(place)
        index = there.index()
        assert not index.duplicated(["label", "psi", "z_seed"]).any()
        assert len(index) == 4 * 10 + 1
        expected = open_bank(bank).read("trv", 0.5, range(1, 11))
        assert (there.read("trv", 0.5, range(1, 11)) == expected).all()

    def test_resumed(
        self, secret_bucket: str, bank: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = within(secret_bucket, "banks/heads")
        with monkeypatch.context() as patch:
            write, left = ObjectStore.write, iter([True] * 5)

            def cut(self: ObjectStore, name: str, data: Any) -> None:
                if name.startswith("shards") and not next(left, False):
                    raise BankError("unreachable")
                write(self, name, data)

            patch.setattr(ObjectStore, "write", cut)
            with pytest.raises(BankError, match="unreachable"):
                stage(bank, place, QUIET)
        with pytest.raises(BankError, match="unfinished"):
            open_bank(place)
        stage(bank, place, QUIET)
        assert open_bank(place).shards == open_bank(bank).shards
        assert len(read_manifest(open_store(place)) or ()) == 12

    def test_refused(self, secret_bucket: str, bank: Path, tmp_path: Path) -> None:
        place = within(secret_bucket, "banks/heads")
        other = BankSpec(size=16, channels=1, noise="none", sources=SPEC.sources)
        fill(place, other, STUBS, demand(1, 2))
        with pytest.raises(BankError, match="contains other fakes: its size is 16, not 8"):
            copy_of(bank, place)
        shard = open_bank(bank).shards[0]
        file = bank / shard.path
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        with pytest.raises(BankError, match="is damaged"):
            stage(bank, within(secret_bucket, "banks/damaged"), QUIET)


class TestNetworks:
    @pytest.fixture
    def nets(self, tmp_path: Path) -> Path:
        (tmp_path / "nets").mkdir()
        for name in ("a.pkl", "b.pkl"):
            shutil.copyfile(NETWORK, tmp_path / "nets" / name)
        seen = pd.DataFrame({"image_id": ["1"], "sha256": ["0" * 64], "group": ["p"]})
        seen.to_parquet(tmp_path / "nets" / "a.trained_on.parquet")
        (tmp_path / "nets" / "log.txt").write_text("x")
        return tmp_path / "nets"

    def test_a_folder_and_one_more(
        self, secret_bucket: str, nets: Path, tmp_path: Path, sent: Counter[str]
    ) -> None:
        place = within(secret_bucket, "nets")
        stage(nets, place, QUIET)
        assert set(sent) == {"a.pkl", "a.trained_on.parquet", "b.pkl", "files.json"}
        shutil.copyfile(NETWORK, tmp_path / "c.pkl")
        stage(tmp_path / "c.pkl", place, QUIET)
        for name in ("a.pkl", "b.pkl", "c.pkl"):
            file = local_file(within(place, name), SnapshotError, (paths.TRAINED_ON,))
            assert file.read_bytes() == NETWORK.read_bytes()
            assert paths.record_of(file).is_file() == (name == "a.pkl")

    def test_without_a_listing(self, secret_bucket: str, node: Path) -> None:
        there = store.open_store(within(secret_bucket, "nets"), UserError)
        there.write("a.pkl", b"one")
        place = within(there.uri, "a.pkl")
        assert local_file(place, SnapshotError).read_bytes() == b"one"
        there.write("a.pkl", b"other")  # another size: another file
        assert local_file(place, SnapshotError).read_bytes() == b"other"

    def test_refused(self, secret_bucket: str, nets: Path, node: Path) -> None:
        place = within(secret_bucket, "nets")
        stage(nets, place, QUIET)
        with pytest.raises(SnapshotError, match=r"d\.pkl does not exist.*fgaug stage"):
            local_file(within(place, "d.pkl"), SnapshotError)
        there = store.open_store(place, UserError)
        there.write("a.pkl", NETWORK.read_bytes()[:-1] + b"?")
        with pytest.raises(SnapshotError, match=r"a\.pkl is damaged: its SHA-256"):
            local_file(within(place, "a.pkl"), SnapshotError)
        assert not [path for path in node.rglob("*") if path.is_file()]
        assert local_file("nets/x.pkl", SnapshotError) == Path("nets/x.pkl")

    def test_a_bank_is_filled_from_a_uri(self, secret_bucket: str, nets: Path) -> None:
        place = within(secret_bucket, "nets")
        stage(nets, place, QUIET)
        source = LabelSource(kind="stylegan2", file=within(place, "a.pkl"))
        described = describe("dbp", source)
        assert described == describe(
            "dbp", LabelSource(kind="stylegan2", file=str(nets / "a.pkl"))
        )
        spec = BankSpec(size=8, channels=1, noise="seeded", sources={"dbp": described})
        bank = fill(
            within(secret_bucket, "bank"),
            spec,
            {"dbp": source},
            Demand.of([("dbp", 0.7, np.array([3]))]),
        )
        expected = load_generator(NETWORK, "seeded").generate([3], 0.7)
        assert (bank.read("dbp", 0.7, [3]) == expected).all()
        assert bank.store.has(paths.BankNames.trained_on(described.sha256))


class TestStorage:
    """A grid whose inputs are copied trains the same cells, from the store alone."""

    @pytest.fixture
    def root(self, folder: Path, tmp_path: Path) -> Path:
        """Return a folder with the dataset and two networks, whose names mean nothing."""
        root = tmp_path / "laptop"
        shutil.copytree(folder, root / "dataset")
        for label in ("dbp", "trv"):
            shutil.copyfile(NETWORK.with_name("a.pkl"), root / f"net {label}.pkl")
        manifest = open_dataset(root / "dataset").manifest
        seen = manifest.loc[manifest["split"] == "train", ["sha256", "group"]]
        seen.to_parquet(root / "net trv.trained_on.parquet")
        return root

    def space(self, root: Path, **changes: Any) -> Space:
        networks = {label: str(root / f"net {label}.pkl") for label in ("dbp", "trv")}
        generator = {"snapshots": networks, "noise": "const"}
        return parse_space(grid(root, generator=generator, **changes))

    def filled(self, root: Path, tmp_path: Path) -> Plan:
        """Return the plan of the grid with all fakes in its local bank."""
        (needs,) = planner.plan(self.space(root), tmp_path / "run").needs
        fill(root / "bank", needs.source.spec, label_sources(needs.source), needs.missing)
        return planner.plan(self.space(root), tmp_path / "run")

    def staged(self, planned: Plan, place: str) -> Space:
        return storage.stage_inputs(planned, place, QUIET)

    def test_the_same_cells_from_the_store_alone(
        self, secret_bucket: str, root: Path, tmp_path: Path, sent: Counter[str]
    ) -> None:
        planned = self.filled(root, tmp_path)
        place = within(secret_bucket, "inputs")
        space = self.staged(planned, place)
        sent.clear()
        assert self.staged(planned, place) == space
        assert not {name for name in sent if name != "bank.lock"}
        root.rename(tmp_path / "gone")
        again = planner.plan(space, tmp_path / "run")
        assert [cell.cell_id for cell in again.cells] == [cell.cell_id for cell in planned.cells]
        assert not again.needs[0].missing.count
        for name, then in planned.sources.items():
            now = again.sources[name]
            assert now.dataset.startswith(within(secret_bucket, "inputs").split("?")[0])
            assert (now.dataset_digest, now.snapshots) == (then.dataset_digest, then.snapshots)
            assert (now.leakage, now.exposure) == (then.leakage, then.exposure)
        assert "secret" not in space.to_yaml()
        assert "laptop" not in space.to_yaml()

    def test_trials_have_the_same_numbers(
        self, secret_bucket: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        planned = self.filled(root, tmp_path)
        cell = next(cell for cell in planned.cells if cell.uses_fakes)
        local = run_trial(cell, planned.sources[None])
        space = self.staged(planned, within(secret_bucket, "inputs"))
        root.rename(tmp_path / "gone")
        monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "another node"))
        again = planner.plan(space, tmp_path / "run")
        there = run_trial(cell, again.sources[None])
        pd.testing.assert_frame_equal(there.predictions, local.predictions, check_exact=True)
        costs = ["wall_s", "train_images_per_s", "peak_rss_mb", "started_at"]
        rows = (pd.Series(result.row).drop(costs) for result in (there, local))
        pd.testing.assert_series_equal(*rows, check_exact=True)

    def test_initial_weights(
        self, secret_bucket: str, root: Path, tmp_path: Path, made_weights: Path
    ) -> None:
        recipe = {"model": MODEL, "weights": str(made_weights), "batch_size": 16}
        planned = planner.plan(self.space(root, recipe=recipe), tmp_path / "run")
        space = self.staged(planned, within(secret_bucket, "inputs"))
        assert space.recipe.weights is not None
        assert space.recipe.weights.startswith("s3://")
        root.rename(tmp_path / "gone")
        made_weights.rename(tmp_path / "gone.pth")
        again = planner.plan(space, tmp_path / "run")
        assert [cell.cell_id for cell in again.cells] == [cell.cell_id for cell in planned.cells]
        found = weights.find(again.cells[0].recipe).path
        assert found is not None
        assert found.read_bytes() == (tmp_path / "gone.pth").read_bytes()

    def test_weights_on_an_axis_are_refused(
        self, secret_bucket: str, root: Path, tmp_path: Path, made_weights: Path
    ) -> None:
        axes = {"psi": [1.0], "mode": ["augmentation"], "ratio": [1], "seed": [1, 2]}
        space = self.space(
            root,
            axes={**axes, "recipe.weights": [str(made_weights)]},
            recipe={"model": MODEL, "batch_size": 16},
        )
        planned = planner.plan(space, tmp_path / "run")
        with pytest.raises(GridError, match=r"`axes\.recipe\.weights` names the local file"):
            self.staged(planned, within(secret_bucket, "inputs"))

    def test_said_before(
        self, secret_bucket: str, root: Path, tmp_path: Path, fgaug: Any, sent: Counter[str]
    ) -> None:
        path = write_grid(root)
        place = within(secret_bucket, "inputs")
        code, out, err = fgaug("search", path, "--dry-run", "--storage", place)
        assert code == 0, err
        shown = place.replace("key:secret@", "").split("?")[0]
        assert re.search(rf"inputs go to {shown}: [\d.]+ kB of [\d.]+ kB to send", out)
        assert not sent

    def test_where_it_goes_unless_given(self) -> None:
        at = storage.storage_of
        assert at("s3://b/x", None, None) == "s3://b/x"
        assert at("s3://b/x", "s3://c/runs/1", "auto") == "s3://b/x"
        assert at(None, "s3://c/runs/1?a=b", "auto") == "s3://c/runs/inputs?a=b"
        assert at(None, "s3://c/runs/1", None) is None  # one machine, which sees its folders
        assert at(None, "runs/1", "auto") is None
        with pytest.raises(UserError, match="--storage must be a URI that every node reaches"):
            at("/shared/inputs", None, None)


@pytest.fixture
def made_weights(tmp_path: Path) -> Path:
    """Return a file of weights for MODEL, as another program saved them."""
    import timm
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model(MODEL).state_dict(), tmp_path / "made.pth")
    return tmp_path / "made.pth"
