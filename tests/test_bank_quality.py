"""`fgaug bank quality`: a bank with known faults, measured, kept and told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from phantom_bank import bank_of_heads, phantom_of_machines, pooled

from fgaug.bank import Bank, Demand, Scorer, open_bank, write_scores
from fgaug.data import Dataset
from fgaug.errors import BankError, DataError, UserError
from fgaug.quality import strata
from fgaug.quality.fake_sets import record
from fgaug.quality.fake_sets.measure import FakeSetOptions, kept_of, measure_bank
from fgaug.quality.fake_sets.record import TABLES, SetRecord
from fgaug.quality.features import networks
from fgaug.quality.features.networks import FeatureNetwork
from fgaug.quality.set_measures import MEASURES

Fgaug = Callable[..., tuple[int, str, str]]
COPIES = 12


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "load_network", lambda *_: pooled())
    monkeypatch.setattr(strata, "RESAMPLES", 100)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return phantom_of_machines(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def place(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("heads") / "bank"
    bank_of_heads(root, data, lacking=2, copies=COPIES)
    return root


def held(bank: Bank) -> Demand:
    groups = bank.index().groupby(["label", "psi"])["z_seed"]
    return Demand.of((label, psi, rows.to_numpy()) for (label, psi), rows in groups)


@pytest.fixture(scope="module")
def kept(data: Dataset, place: Path) -> SetRecord:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_network", lambda *_: pooled())
        bank = open_bank(place)
        return measure_bank(bank, held(bank), FakeSetOptions(dataset=data.root, device="cpu"))


def test_every_set_has_its_measures_beside_the_reals(kept: SetRecord) -> None:
    sets = kept.frame("sets")
    assert list(zip(sets["label"], sets["psi"], strict=True)) == [
        ("dbp", 0.5), ("dbp", 1.0), ("trv", 0.5), ("trv", 1.0),
    ]  # fmt: skip
    assert sets["reason"].isna().all()
    for name in MEASURES:
        assert sets[[name, f"{name}_at_floor", f"floor_{name}"]].notna().all(axis=None)
    assert sets["floor_by"].eq("group").all()
    assert (sets["n_fake"] == sets["n_bank"]).all()


def test_planted_copies_are_found_and_shown(kept: SetRecord) -> None:
    copies = kept.frame("copies").set_index(["label", "psi"])
    for label in ("dbp", "trv"):
        planted, clean = copies.loc[(label, 0.5)], copies.loc[(label, 1.0)]
        assert (planted["exact"], clean["exact"]) == (COPIES, 0)
        assert planted["share"] >= COPIES / planted["n_fake"]
        assert clean["share"] < 0.06
        assert planted["authentic"] < clean["authentic"]
    pairs = kept.frame("pairs")
    nearest = pairs[pairs["psi"].eq(0.5)]
    assert nearest["distance"].max() == 0
    assert nearest["z_seed"].max() <= COPIES
    assert pairs.groupby(["label", "psi"])["image_id"].nunique().eq(6).all()


def test_the_machine_that_a_set_lacks_is_reported(kept: SetRecord) -> None:
    (machine,) = kept.tables["machines"]
    assert machine["tells"]
    shares = kept.frame("shares")
    lacking = shares[shares["missing"]]
    assert lacking[["label", "psi", "value"]].values.tolist() == [["trv", 1.0, "machine 2"]]
    assert lacking["p_value"].iloc[0] < 0.01
    assert shares.groupby(["label", "psi"])["fake"].sum().to_numpy() == pytest.approx(1)


def test_new_heads_are_not_told_from_reals_by_high_frequencies(kept: SetRecord) -> None:
    spectrum, reals = kept.frame("spectrum"), kept.frame("reals")
    assert spectrum["auc"].between(0.35, 0.65).all()
    assert reals["auc"].between(0.3, 0.7).all()
    assert reals["agrees"].between(0.5, 1).all()
    assert (reals["realism_q05"] <= reals["realism_q95"]).all()


def test_what_is_kept_is_read_back_and_holds_no_pixel(
    kept: SetRecord, place: Path, data: Dataset
) -> None:
    (file,) = (place / "quality").iterdir()
    assert file.name == f"{data.spec.digest[:12]}-dataset-pooled-01234567@32.json"
    assert file.stat().st_size < 60_000
    (again,) = kept_of(open_bank(place).store, data.spec.digest)
    assert kept_of(open_bank(place).store, "0" * 64) == []
    for name in TABLES:
        pd.testing.assert_frame_equal(again.frame(name), kept.frame(name))
    assert json.loads(file.read_text())["sources"].keys() == {"dbp", "trv"}


def test_a_filter_adds_its_sets_to_those_that_are_kept(
    kept: SetRecord, data: Dataset, tmp_path: Path
) -> None:
    bank = bank_of_heads(tmp_path / "bank", data)
    how = FakeSetOptions(dataset=data.root, images=40, device="cpu")
    with pytest.raises(BankError, match="0 sets of scores `features`"):
        measure_bank(bank, held(bank), FakeSetOptions(**{**_fields(how), "filters": ("copy",)}))
    scorer = Scorer("features", "a" * 64, ("copy", "realism"))
    for (label, psi), z_seeds in held(bank).wanted.items():
        scores = {"z_seed": z_seeds, "copy": z_seeds % 2 == 0, "realism": 1.0 * (z_seeds < 4)}
        write_scores(bank.store, scorer, label, psi, pd.DataFrame(scores))
    one = Demand.of([("dbp", 1.0, held(bank).wanted["dbp", 1.0])])
    measure_bank(bank, one, how)
    filters = ("not copy", "copy == false", "realism>=1")
    found = measure_bank(bank, one, FakeSetOptions(**{**_fields(how), "filters": filters}))
    rows = found.frame("sets").set_index("filter")
    assert list(rows.index) == ["none", "copy==false", "realism>=1"]
    assert rows["n_fake"].tolist()[:2] == [40, 40]
    assert rows["n_pass"].tolist() == [rows["n_bank"].iloc[0], -(-rows["n_bank"].iloc[0] // 2), 3]
    assert "at least 12 images" in rows.loc["realism>=1", "reason"]
    later = measure_bank(bank, Demand.of([("trv", 0.5, held(bank).wanted["trv", 0.5])]), how)
    assert len(later.frame("sets")) == 4
    apart = SetRecord(head={**later.head, "images": 30}, tables={})
    assert later.with_newer(apart) is apart, "of other sizes: they do not compare"


def _fields(how: FakeSetOptions) -> dict[str, object]:
    return {name: getattr(how, name) for name in how.__slots__}


def test_two_banks_of_one_label_are_told_apart_or_not(data: Dataset, tmp_path: Path) -> None:
    bank = bank_of_heads(tmp_path / "bank", data)
    other = bank_of_heads(tmp_path / "other", data, lacking=1)
    how = FakeSetOptions(
        dataset=data.root, images=60, against=str(tmp_path / "other"), device="cpu"
    )
    wanted = Demand.of([("trv", 0.5, held(other).wanted["trv", 0.5])])
    found = measure_bank(bank, wanted, how).frame("networks")
    assert found["n_first"].eq(60).all()
    (alike,) = found.to_dict("records")
    assert alike["auc_low"] <= 0.5 <= alike["auc_high"], "the same images twice"


class _Rows(torch.nn.Module):
    """Means of image rows: a second network, of another length."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() / 255)[:, 0].mean(dim=2)


def test_precision_and_recall_by_a_network_of_their_own(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fgaug: Fgaug
) -> None:
    vgg16 = FeatureNetwork(
        _Rows(), name="vgg16", sha256="c" * 64, side=32, words="rows", device="cpu"
    )
    monkeypatch.setattr(
        networks, "load_network", lambda asked, *_: vgg16 if "vgg16" in asked else pooled()
    )
    bank = bank_of_heads(tmp_path / "bank", data)
    how = FakeSetOptions(dataset=data.root, images=40, device="cpu")
    wanted = Demand.of([("trv", 0.5, held(bank).wanted["trv", 0.5])])
    first = measure_bank(bank, wanted, how)
    by_rows = measure_bank(bank, wanted, dataclasses.replace(how, features="vgg16:v.pth"))
    told: list[tuple[int, int]] = []
    pair = measure_bank(
        bank,
        wanted,
        dataclasses.replace(how, pr_features="vgg16:v.pth"),
        lambda *count: told.append(count),
    )
    assert told[-1] == (2 * (len(data) + 40), 2 * (len(data) + 40))
    (row,), (one,), (other,) = (
        each.frame("sets").to_dict("records") for each in (pair, first, by_rows)
    )
    for name in ("fid", "kid", "kid_error", "fid_at_floor", "floor_kid", "floor_n_sample"):
        assert row[name] == pytest.approx(one[name]), name
    for name in ("precision", "recall", "density", "coverage"):
        for column in (name, f"{name}_at_floor", f"floor_{name}_sd"):
            assert row[column] == pytest.approx(other[column]), column
    assert (row["features"], row["pr_features"]) == ("pooled-01234567@32", "vgg16-cccccccc@32")
    assert len(kept_of(bank.store, data.spec.digest)) == 3, "each pair has its own file"
    code, out, err = fgaug(
        *("bank", "quality", tmp_path / "bank", "--dataset", data.root, "--images", 40),
        *("--label", "trv", "--psi", 0.5, "--pr-features", "vgg16:v.pth", "--device", "cpu"),
        *("--out", tmp_path / "quality"),
    )
    assert (code, err) == (0, "")
    assert "FID and KID by pooled-01234567@32; precision, recall" in " ".join(out.split())
    written = pd.read_csv(tmp_path / "quality" / "sets.csv")
    assert written["pr_features"].eq("vgg16-cccccccc@32").all()


def test_a_record_from_before_the_pair_still_opens(kept: SetRecord) -> None:
    value = json.loads(kept.to_bytes())
    older = {name: each for name, each in value.items() if not name.startswith("pr_")}
    read = record.read(json.dumps(older).encode(), "x.json")
    assert read is not None
    assert read.name == kept.name
    pd.testing.assert_frame_equal(read.frame("sets"), kept.frame("sets"))


def test_images_of_another_size_are_refused(data: Dataset, tmp_path: Path) -> None:
    from small_bank import small_bank

    bank = small_bank(tmp_path / "bank", size=16)
    with pytest.raises(BankError, match="16 px and 1 channels"):
        measure_bank(bank, held(bank), FakeSetOptions(dataset=data.root, device="cpu"))
    other = small_bank(tmp_path / "other", labels=("other",), size=32)
    with pytest.raises(DataError, match="has no label other; its labels are dbp, trv"):
        measure_bank(other, held(other), FakeSetOptions(dataset=data.root, device="cpu"))
    with pytest.raises(UserError, match="--images must be at least 12, got 3"):
        measure_bank(bank, held(bank), FakeSetOptions(dataset=data.root, images=3, device="cpu"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    for text in ("", "[]", '{"version": 1}', '{"version": 1, "sets": 3}'):
        with pytest.raises(BankError, match="holds no measurements of fakes"):
            record.read(text.encode(), "x.json")
    assert record.read(b'{"version": 99}', "x.json") is None


def test_the_command_prints_and_writes(
    data: Dataset, place: Path, kept: SetRecord, tmp_path: Path, fgaug: Fgaug
) -> None:
    out = tmp_path / "quality"
    arguments = ("--dataset", data.root, "--label", "trv", "--device", "cpu", "--out", out)
    code, told, errors = fgaug("bank", "quality", place, *arguments)
    assert code == 0, errors
    assert told.splitlines()[-1] == str(out)
    assert "Measures of fakes / of reals in their place" in told
    assert "Missing in the fakes: machine 2 in trv (ψ 1)." in told
    assert "24 exact copies among the measured sets." in told
    names = {path.name for path in out.iterdir()}
    assert {"sets.csv", "copies.csv", "pairs.csv", "shares.csv", "pairs.png"} <= names
    assert {"precision_recall.svg", "precision_recall.png"} <= names
    assert len(pd.read_csv(out / "sets.csv")) == 4, "those that were measured before stay"
    assert np.isfinite(pd.read_csv(out / "sets.csv")["fid"]).all()
