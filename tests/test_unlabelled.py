"""Images without a label: for GANs alone, split with their patients, and labelled by proposal."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_model import kept_classifier

from fgaug.data import audit as audits
from fgaug.data import make_phantom, open_dataset
from fgaug.data.prepare import prepare
from fgaug.data.pseudo_labels import accepted_labels
from fgaug.errors import DataError, UserError
from fgaug.training.pseudo_label import propose
from gan_worker.training.export import export_training_images
from gan_worker.training.images import (
    EVERY_LABEL,
    all_training_images,
    training_images,
    with_pseudo_labels,
    write_trained_on,
)
from gan_worker.training.jobs import TrainRequest, jobs_of

DOCS = Path(__file__).parent.parent / "docs"
COUNT = 90


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images and labels.csv: every third image lacks its label."""
    root = tmp_path_factory.mktemp("unlabelled")
    made = make_phantom(COUNT, size=32)
    (root / "img").mkdir()
    for name, pixels in zip(made.table["image_id"], made.images, strict=True):
        Image.fromarray(pixels[..., 0]).save(root / "img" / f"{name}.png")
    table = made.table.rename(
        columns={"image_id": "file", "label": "diagnosis", "group": "patient"}
    )
    table.loc[table.index % 3 == 0, "diagnosis"] = ""
    table.loc[table["patient"] == table["patient"].iloc[-1], "diagnosis"] = ""
    table[["file", "diagnosis", "patient"]].to_csv(root / "labels.csv", index=False)
    return root


def prepared(heads: Path, out: Path, csv: Path | None = None, **options: Any) -> Any:
    given = {"image_col": "file", "label_col": "diagnosis", "group_col": "patient", "size": 32}
    given |= {"images": heads / "img", "unlabelled": "keep", "test": 0.2}
    return prepare(out=out, csv=csv or heads / "labels.csv", **(given | options))


@pytest.fixture(scope="module")
def once(heads: Path) -> Path:
    prepared(heads, heads / "partly")
    return heads / "partly"


@pytest.fixture
def partly(once: Path, tmp_path: Path) -> Path:
    """Return a prepared dataset of the test's own."""
    return Path(shutil.copytree(once, tmp_path / "partly"))


class TestPrepare:
    def test_the_labelled_images_are_those_of_a_set_without_the_others(
        self, heads: Path, partly: Path, tmp_path: Path
    ) -> None:
        table = pd.read_csv(heads / "labels.csv", dtype=str, keep_default_na=False)
        known = table[table["diagnosis"] != ""]
        known.to_csv(tmp_path / "known.csv", index=False)
        alone = prepared(heads, tmp_path / "alone", tmp_path / "known.csv", unlabelled=None)
        dataset = open_dataset(partly)
        assert dataset.spec.digest == alone.spec.digest
        assert dataset.manifest.equals(alone.manifest)
        assert (dataset.pixels() == alone.pixels()).all()
        assert alone.unlabelled is None

    def test_the_others_follow_their_patients(self, heads: Path, partly: Path) -> None:
        dataset = open_dataset(partly)
        rest = dataset.unlabelled
        assert rest is not None
        table = pd.read_csv(heads / "labels.csv", dtype=str, keep_default_na=False)
        assert sorted(rest.manifest["image_id"]) == sorted(
            table.loc[table["diagnosis"] == "", "file"]
        )
        assert set(rest.manifest["label"]) == {""}
        for name in ("dataset", 5, 6):
            divided = dataset.with_split(name)
            assert divided.unlabelled is not None
            sides = divided.manifest.groupby("group")["split"].first()
            expected = divided.unlabelled.manifest["group"].map(sides).fillna("train")
            assert divided.unlabelled.manifest["split"].tolist() == expected.tolist()
            assert {"train", "valid", "test"} <= set(expected)
        last = table["patient"].iloc[-1]
        mine = rest.manifest[rest.manifest["group"].astype(str) == last]
        assert set(mine["split"]) == {"train"}, "a patient without any label trains"
        pixels = np.asarray(Image.open(heads / "img" / f"{rest.manifest['image_id'][0]}.png"))
        assert (rest.pixels()[0][..., 0] == pixels).all()

    def test_refused_without_the_option(self, heads: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            prepared(heads, tmp_path / "d", unlabelled=None)
        assert 'rows without "diagnosis"' in str(caught.value)
        assert "--unlabelled keep these images serve GANs alone" in str(caught.value)
        with pytest.raises(DataError, match='--unlabelled "gan" is unknown'):
            prepared(heads, tmp_path / "d", unlabelled="gan")
        with pytest.raises(DataError, match="--unlabelled keeps the rows of a label table"):
            prepare(out=tmp_path / "d", size=8, folders=heads, unlabelled="keep")
        assert not (tmp_path / "d").exists()

    def test_keep_label_keeps_them(self, heads: Path, tmp_path: Path) -> None:
        table = pd.read_csv(heads / "labels.csv", dtype=str, keep_default_na=False)
        table.loc[4, "diagnosis"] = "other"
        table.to_csv(tmp_path / "l.csv", index=False)
        kept = prepared(heads, tmp_path / "d", tmp_path / "l.csv", keep_labels=["dbp", "trv"])
        assert len(kept.unlabelled) == (table["diagnosis"] == "").sum()
        assert len(kept) == (table["diagnosis"] != "").sum() - 1

    def test_a_second_run_and_another_set(self, heads: Path, partly: Path, tmp_path: Path) -> None:
        before = (partly / "dataset.json").read_bytes()
        prepared(heads, partly)
        assert (partly / "dataset.json").read_bytes() == before
        table = pd.read_csv(heads / "labels.csv", dtype=str, keep_default_na=False)
        fewer = table.drop(index=table.index[table["diagnosis"] == ""][0])
        fewer.to_csv(tmp_path / "fewer.csv", index=False)
        with pytest.raises(DataError, match="this dataset with other images without a label"):
            prepared(heads, partly, tmp_path / "fewer.csv")

    def test_a_lost_or_foreign_folder(self, heads: Path, partly: Path) -> None:
        (partly / "unlabelled").rename(partly / "away")
        with pytest.raises(DataError, match="has lost its folder unlabelled"):
            open_dataset(partly)
        (partly / "away").rename(partly / "unlabelled")
        spec = json.loads((partly / "dataset.json").read_text())
        spec["source"]["unlabelled"]["digest"] = "0" * 64
        (partly / "dataset.json").write_text(json.dumps(spec))
        with pytest.raises(DataError, match="belongs to another dataset"):
            open_dataset(partly)

    def test_a_given_split(self, heads: Path, tmp_path: Path) -> None:
        table = pd.read_csv(heads / "labels.csv", dtype=str, keep_default_na=False)
        groups = {name: i for i, name in enumerate(dict.fromkeys(table["patient"]))}
        table["set"] = [("train", "valid")[groups[name] % 2] for name in table["patient"]]
        table.to_csv(tmp_path / "l.csv", index=False)
        options = {"split_col": "set", "test": None}
        dataset = prepared(heads, tmp_path / "d", tmp_path / "l.csv", **options)
        given = table.set_index("file")["set"]
        rest = dataset.unlabelled.manifest
        assert rest["split"].tolist() == given[rest["image_id"]].tolist()
        row = table.index[(table["diagnosis"] == "") & table["patient"].duplicated(keep=False)][0]
        table.loc[row, "set"] = {"train": "valid", "valid": "train"}[table.loc[row, "set"]]
        table.to_csv(tmp_path / "l.csv", index=False)
        with pytest.raises(DataError, match="1 group in more than one split"):
            prepared(heads, tmp_path / "e", tmp_path / "l.csv", **options)


class TestNoClassifier:
    def test_their_folder_is_no_dataset(self, partly: Path) -> None:
        with pytest.raises(DataError, match="images without a label, on which no classifier"):
            open_dataset(partly / "unlabelled")

    def test_networks_of_labels_do_not_see_them(self, partly: Path, tmp_path: Path) -> None:
        dataset = open_dataset(partly)
        images = training_images(dataset, ["dbp", "trv"])
        rest = dataset.unlabelled
        assert rest is not None
        assert not set(images.table["image_id"]) & set(rest.manifest["image_id"])
        done = export_training_images(partly, ["dbp"], tmp_path / "o")
        assert set(pd.read_parquet(done.record)["label"]) == {"dbp"}


class TestCopies:
    def test_a_copy_of_a_validation_image_under_another_patient(
        self, heads: Path, partly: Path, tmp_path: Path
    ) -> None:
        dataset = open_dataset(partly)
        held = dataset.manifest.loc[dataset.manifest["split"] == "valid", "image_id"].iloc[0]
        copy = heads / "img" / "copy.png"
        copy.write_bytes((heads / "img" / f"{held}.png").read_bytes())
        try:
            table = pd.read_csv(heads / "labels.csv", dtype=str, keep_default_na=False)
            row = pd.DataFrame({"file": ["copy"], "diagnosis": [""], "patient": ["9999"]})
            pd.concat([table, row]).to_csv(tmp_path / "l.csv", index=False)
            with pytest.raises(DataError) as caught:
                prepared(heads, tmp_path / "d", tmp_path / "l.csv")
            assert "1 exact duplicate is in more than one split" in str(caught.value)
            assert "under more than one label" not in str(caught.value)
            dropped = prepared(heads, tmp_path / "d", tmp_path / "l.csv", copies="drop")
            assert dropped.manifest["image_id"].tolist() == dataset.manifest["image_id"].tolist()
            assert "copy" not in dropped.unlabelled.manifest["image_id"].tolist()
            joined = prepared(heads, tmp_path / "e", tmp_path / "l.csv", copies="group")
            rest = joined.unlabelled.manifest.set_index("image_id")
            one = joined.manifest.set_index("image_id").loc[held]
            assert rest.loc["copy", "group"] == one["group"]
            assert rest.loc["copy", "split"] == one["split"]
        finally:
            copy.unlink()

    def test_the_audit_sees_them(self, partly: Path, fgaug: Any, tmp_path: Path) -> None:
        dataset = open_dataset(partly)
        assert audits.audit(dataset) == []
        rest = dataset.unlabelled
        assert rest is not None
        moved = rest.manifest.assign(
            split=rest.manifest["split"].map({"train": "valid", "valid": "train", "test": "test"})
        )
        whole = pd.concat([dataset.manifest, moved.assign(label=None)], ignore_index=True)
        assert "in more than one split" in audits.audit(whole)[0]
        code, out, err = fgaug("data", "audit", partly, "--out", tmp_path / "pairs")
        assert code == 0, err
        assert f"without a label: {len(rest)} images" in out


class TestNetworks:
    def test_one_network_on_all_images(self, partly: Path, tmp_path: Path) -> None:
        (job,) = jobs_of(TrainRequest(dataset=partly, out=tmp_path / "nets", unlabelled=True))
        assert job.out == str(tmp_path / "nets" / "all")
        images, dataset = job.images(), open_dataset(partly)
        assert images.labels == (EVERY_LABEL,)
        assert set(images.classes) == {0}
        rest = dataset.unlabelled
        assert rest is not None
        named = training_images(dataset, ["dbp", "trv"])
        usable = rest.manifest[rest.manifest["split"] == "train"]
        assert len(images) == len(named) + len(usable) > len(named)
        assert set(images.table["sha256"]) == {*named.table["sha256"], *usable["sha256"]}
        by_id = dict(zip(rest.manifest["image_id"], rest.pixels(), strict=True))
        last = len(images) - 1
        assert (images.take(np.array([last]))[0] == by_id[images.table["image_id"][last]]).all()
        assert (images.take(np.array([0]))[0] == named.take(np.array([0]))[0]).all()

    def test_the_record_names_their_patients(self, partly: Path, tmp_path: Path) -> None:
        dataset = open_dataset(partly)
        images = all_training_images(dataset)
        record = pd.read_parquet(write_trained_on(tmp_path / "x.pkl", images))
        assert list(record.columns) == ["sha256", "group", "label"]
        assert record["group"].dtype == dataset.manifest["group"].dtype
        held = dataset.manifest[dataset.manifest["split"] != "train"]
        assert not set(record["group"]) & set(held["group"])
        assert set(record["label"]) == {"dbp", "trv", ""}
        later = training_images(dataset, ["trv"])
        both = pd.read_parquet(write_trained_on(tmp_path / "y.pkl", later, tmp_path / "x.pkl"))
        assert set(both["sha256"]) == set(record["sha256"])

    def test_options_that_do_not_go_together(self, partly: Path, tmp_path: Path) -> None:
        for extra in ({"labels": ["dbp"]}, {"conditional": True}):
            with pytest.raises(UserError, match="Omit --label, --conditional"):
                jobs_of(TrainRequest(dataset=partly, out=tmp_path, unlabelled=True, **extra))

    def test_a_dataset_without_them(self, heads: Path, tmp_path: Path) -> None:
        table = pd.read_csv(heads / "labels.csv", dtype=str, keep_default_na=False)
        table[table["diagnosis"] != ""].to_csv(tmp_path / "l.csv", index=False)
        dataset = prepared(heads, tmp_path / "d", tmp_path / "l.csv")
        with pytest.raises(DataError, match="has no images without a label"):
            all_training_images(dataset)


def shown(page: str, start: str) -> list[str]:
    """Return the words of the command of a page that begins with `start`."""
    text = (DOCS / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    (line,) = [line for line in lines if line.startswith(start)]
    return shlex.split(line.split(" # ")[0])[1:]


class TestCommands:
    def test_from_the_table_to_the_networks(
        self, heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Any
    ) -> None:
        """The commands of both pages, as they stand there; training as a dry run."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "img").symlink_to(heads / "img")
        (tmp_path / "labels.csv").write_bytes((heads / "labels.csv").read_bytes())
        words = shown(
            "own-data.md",
            "fgaug data prepare --csv labels.csv --images img/ --image-col file --label-col "
            "diagnosis --group-col patient --unlabelled",
        )
        code, out, err = fgaug(*words)
        assert code == 0, err
        dataset = open_dataset("data/partly")
        assert dataset.unlabelled is not None
        assert f"without a label: {len(dataset.unlabelled)} images" in out
        trial = tmp_path / "runs" / "partly" / "trials" / "CELL"
        kept_classifier(trial, size=64, dataset_digest=dataset.spec.digest)
        words = shown("own-data.md", "fgaug data pseudo-label")
        words[words.index("--bound") + 1] = "0.501"  # the classifier has drawn weights
        code, out, err = fgaug(*words)
        assert code == 0, err
        assert out.strip() == str(tmp_path / "pseudo.csv")
        assert "proposed labels reach 0.501" in err
        valid = int((dataset.manifest["split"] == "valid").sum())
        assert re.search(rf"\d+ of {valid} reach the bound, and \d+ of these are correct", err)

        code, out, err = fgaug(
            *shown("train-networks.md", "fgaug gan train --dataset data/partly --unlabelled"),
            "--dry-run",
        )
        assert code == 0, err
        assert "nets/all: all, with images without a label" in out
        code, out, err = fgaug(
            *shown("train-networks.md", "fgaug gan train --dataset data/partly --pseudo-labels"),
            "--dry-run",
        )
        assert code == 0, err
        assert "with pseudo-labels" in out


class TestPseudoLabels:
    @pytest.fixture
    def model(self, partly: Path, tmp_path: Path) -> Path:
        digest = open_dataset(partly).spec.digest
        return kept_classifier(tmp_path / "trial", dataset_digest=digest)

    def test_the_table_marks_what_it_proposes(
        self, partly: Path, model: Path, tmp_path: Path
    ) -> None:
        found = propose(model, partly, tmp_path / "p.csv", bound=0.505)
        table = pd.read_csv(tmp_path / "p.csv")
        assert list(table.columns) == [
            *("image", "group", "sha256", "pseudo_label", "confidence", "accepted"),
            *("p_dbp", "p_trv"),
        ]
        dataset = open_dataset(partly)
        rest = dataset.unlabelled
        assert rest is not None
        usable = rest.manifest[rest.manifest["split"] == "train"]
        assert sorted(table["image"]) == sorted(usable["image_id"])
        assert found.left_out == len(rest) - len(usable) > 0
        most = table[["p_dbp", "p_trv"]].max(axis=1)
        assert np.allclose(table["confidence"], most)
        assert (table["accepted"] == (table["confidence"] >= 0.505)).all()
        assert found.checked == (dataset.manifest["split"] == "valid").sum()
        assert 0 <= found.correct <= found.reached <= found.checked

    def test_networks_of_labels_take_the_accepted_ones(
        self, partly: Path, model: Path, tmp_path: Path
    ) -> None:
        table = propose(model, partly, tmp_path / "p.csv", bound=0.501).table
        table["accepted"] = [row % 2 == 0 for row in range(len(table))]
        table.to_csv(tmp_path / "edited.csv", index=False)
        request = TrainRequest(
            dataset=partly, out=tmp_path / "n", pseudo_labels=tmp_path / "edited.csv"
        )
        jobs = {job.labels[0]: job for job in jobs_of(request)}
        dataset = open_dataset(partly)
        for label, job in jobs.items():
            images, before = job.images(), training_images(dataset, [label])
            mine = table[table["accepted"] & (table["pseudo_label"] == label)]
            assert len(images) == len(before) + len(mine)
            assert images.counts == {label: len(images)}
            assert job.facts["pseudo_labels"] is not None
            record = pd.read_parquet(write_trained_on(tmp_path / f"{label}.pkl", images))
            if len(mine):
                assert set(record.loc[record["pseudo"], "sha256"]) == set(mine["sha256"])
        assert sum(map(len, (job.images() for job in jobs.values()))) > len(
            training_images(dataset, ["dbp", "trv"])
        )

    def test_records_keep_the_mark_when_a_network_starts_from_another(
        self, partly: Path, tmp_path: Path
    ) -> None:
        dataset = open_dataset(partly)
        rest = dataset.unlabelled
        assert rest is not None
        sha = rest.manifest.loc[rest.manifest["split"] == "train", "sha256"].iloc[0]
        images = with_pseudo_labels(training_images(dataset, ["dbp"]), dataset, {sha: "dbp"})
        write_trained_on(tmp_path / "x.pkl", images)
        later = training_images(dataset, ["dbp"])
        record = pd.read_parquet(write_trained_on(tmp_path / "y.pkl", later, tmp_path / "x.pkl"))
        assert record.loc[record["pseudo"], "sha256"].tolist() == [sha]

    def test_another_split_moves_their_patients(
        self, partly: Path, model: Path, tmp_path: Path
    ) -> None:
        """A pseudo-label of an image whose patient is now held out trains nothing."""
        table = propose(model, partly, tmp_path / "p.csv", bound=0.501).table
        pseudo = dict(zip(table["sha256"], table["pseudo_label"], strict=True))
        divided = open_dataset(partly).with_split(5)
        images = with_pseudo_labels(training_images(divided, ["dbp", "trv"]), divided, pseudo)
        held = divided.manifest[divided.manifest["split"] != "train"]
        assert not set(images.table["group"]) & set(held["group"])
        assert 0 < images.table["pseudo"].sum() < len(table)

    def test_models_that_do_not_fit(self, partly: Path, tmp_path: Path) -> None:
        digest = open_dataset(partly).spec.digest
        out = tmp_path / "p.csv"
        other = kept_classifier(tmp_path / "1", labels=("a", "b"), dataset_digest=digest)
        with pytest.raises(DataError, match="The model knows the labels a, b"):
            propose(other, partly, out, bound=0.9)
        with pytest.raises(DataError, match="trained on another dataset"):
            propose(kept_classifier(tmp_path / "2"), partly, out, bound=0.9)
        small = kept_classifier(tmp_path / "3", size=16, dataset_digest=digest)
        with pytest.raises(DataError, match="size 16, the dataset 32"):
            propose(small, partly, out, bound=0.9)
        for bound in (0.5, 1.5):
            with pytest.raises(DataError, match="--bound must be above chance"):
                propose(small, partly, out, bound=bound)
        assert not out.exists()

    def test_tables_that_cannot_be_used(self, partly: Path, model: Path, tmp_path: Path) -> None:
        dataset = open_dataset(partly)
        table = propose(model, partly, tmp_path / "p.csv", bound=0.501).table
        path = tmp_path / "t.csv"

        def refusal(frame: pd.DataFrame) -> str:
            frame.to_csv(path, index=False)
            with pytest.raises(DataError) as caught:
                accepted_labels(path, dataset)
            return str(caught.value)

        accepted = table.assign(accepted=True)
        assert "accepts no image" in refusal(table.assign(accepted=False))
        assert 'row 2: accepted must be true or false, got "yes"' in refusal(
            table.assign(accepted="yes")
        )
        assert 'there is no label "DBP", did you mean "dbp"?' in refusal(
            accepted.assign(pseudo_label="DBP")
        )
        assert "row of images that are not among those without" in refusal(
            accepted.assign(sha256=["0" * 64, *accepted["sha256"][1:]])
        )
        twice = pd.concat([accepted[:1], accepted[:1].assign(pseudo_label=["dbp"])])
        twice.iloc[0, list(twice).index("pseudo_label")] = "trv"
        assert "its image has two accepted labels" in refusal(twice)
        assert 'column "pseudo_label" is missing' in refusal(table.drop(columns="pseudo_label"))
        with pytest.raises(DataError, match="is not a file"):
            accepted_labels(tmp_path / "none.csv", dataset)
