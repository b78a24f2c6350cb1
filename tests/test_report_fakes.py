"""The report's chapters about fakes: of a measured bank, of one without, of no fakes at all."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_report import made_material, made_rows
from phantom_bank import bank_of_heads, phantom_of_machines, pooled
from PIL import Image

from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.collect_fakes import known_fakes, scores_of
from fgaug.analysis.report.fakes.chapters import fake_chapters
from fgaug.analysis.report.fakes.predictors import measures_frame
from fgaug.analysis.report.files import draw_all, write_files
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.page import render
from fgaug.analysis.report.parts import Picture, Plot, Section, Table, Text
from fgaug.bank import Bank, Demand, Scorer, open_bank, write_scores
from fgaug.data import Dataset
from fgaug.quality import strata
from fgaug.quality.fake_sets.measure import FakeSetOptions, measure_bank
from fgaug.quality.features import networks

COPIES = 12
KEYS = ("scores", "measures", "copies", "prints", "predictors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return phantom_of_machines(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def bank(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """Return a bank that was scored and measured."""
    bank = bank_of_heads(tmp_path_factory.mktemp("heads") / "bank", data, lacking=2, copies=COPIES)
    groups = bank.index().groupby(["label", "psi"])["z_seed"]
    wanted = Demand.of((*key, rows.to_numpy()) for key, rows in groups)  # type: ignore[misc]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_network", lambda *_: pooled())
        patch.setattr(strata, "RESAMPLES", 100)
        measure_bank(bank, wanted, FakeSetOptions(dataset=data.root, device="cpu"))
    rng = np.random.default_rng(0)
    for (label, psi), z_seeds in wanted.wanted.items():
        count = len(z_seeds)
        realism = np.where(z_seeds <= COPIES, np.inf, rng.normal(1, 0.2, count))
        frame = pd.DataFrame({"z_seed": z_seeds, "realism": realism, "copy": z_seeds <= COPIES})
        scorer = Scorer("features", "a" * 64, ("realism", "copy"))
        write_scores(bank.store, scorer, label, psi, frame)
        confidence = rng.uniform(0.4, 1, count)
        frame = pd.DataFrame(
            {"z_seed": z_seeds, "confidence": confidence, "agrees": confidence > 0.5}
        )
        scorer = Scorer("classifier", "b" * 64, ("confidence", "agrees"))
        write_scores(bank.store, scorer, label, psi, frame)
    return bank


@pytest.fixture(scope="module")
def material(data: Dataset, bank: Bank) -> Material:
    space = {"dataset": str(data.root), "bank": bank.store.uri}
    fakes, reason = known_fakes(space, made_rows())
    return made_material(fakes=fakes, no_fakes=reason)


def chapters_of(material: Material) -> dict[str, Section]:
    return {
        key: Section(key=key, title=title, parts=tuple(parts))
        for key, title, parts in fake_chapters(material)
    }


def words(material: Material) -> str:
    """Return what a reader sees of the chapters, figures left out, in one line."""
    chapters = [
        dataclasses.replace(s, parts=tuple(p for p in s.parts if not isinstance(p, Plot)))
        for s in chapters_of(material).values()
    ]
    page = render(name="made", sections=chapters, drawn={})
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S)
    return " ".join(unescape(text).split())


def test_the_chapters_tell_what_the_bank_keeps(material: Material) -> None:
    told = words(material)
    assert "Missing in the fakes: machine 2 in trv (ψ 1)." in told
    assert "24 exact copies among the measured sets." in told
    assert "Nearer to the training images than new patients are" in told
    assert (
        "Features: pooled-01234567@32; values from another feature network are not comparable."
        in told
    )
    assert "reals against reals" in told
    assert "as high as 0.0% (97.5% limit)" in told, (
        "of 44 held-out patients: exact copies alone count"
    )
    assert "Too few arms: a rank correlation requires 5 sets of fakes" in told
    assert "agrees, reals" in told
    assert "∞" in told, "the realism of copies"
    assert not re.search(r"\b(nan|None|inf)\b", told)
    scores = next(p for p in chapters_of(material)["scores"].parts if isinstance(p, Table))
    assert scores.frame["agrees"].between(0.6, 1).all()
    assert (scores.frame["agrees_low"] < scores.frame["agrees"]).all()


def test_every_figure_is_drawn_and_the_pairs_are_shown(material: Material, tmp_path: Path) -> None:
    sections = list(chapters_of(material).values())
    drawn = draw_all(sections, png=False)
    assert set(drawn) == {"fakes_1_scores", "fakes_1_precision_recall"}
    assert all(b"<svg" in each.light and b"<svg" in each.dark for each in drawn.values())
    write_files(tmp_path, sections, drawn)
    (picture,) = [p for s in sections for p in s.parts if isinstance(p, Picture)]
    with Image.open(tmp_path / "figures" / f"{picture.name}.png") as image:
        assert image.size[0] > 6 * 64, "six pairs side by side"
    names = {path.stem for path in (tmp_path / "tables").glob("*.csv")}
    assert {
        "fakes_1_measures",
        "fakes_1_copies",
        "fakes_1_stratum_machine",
        "fakes_1_scores",
    } <= names
    assert {"fakes_1_frequencies"} <= names


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_chapters_open_whole_in_a_browser(material: Material, tmp_path: Path) -> None:
    import browser

    sections = list(chapters_of(material).values())
    page, drawn = tmp_path / "index.html", draw_all(sections, png=False)
    page.write_text(render(name="made", sections=sections, drawn=drawn), encoding="utf-8")
    browser.check(page, tmp_path / "profile", images=3)


def test_copies_stand_above_the_images_that_they_copy(
    material: Material, data: Dataset, bank: Bank
) -> None:
    kept = material.fakes[0].kept
    assert kept is not None
    pairs = kept.frame("pairs").query("psi == 0.5 and label == 'trv'")
    rows = data.manifest.set_index("image_id", drop=False)["image_id"].index.get_indexer(
        pairs["image_id"]
    )
    fakes = bank.read("trv", 0.5, pairs["z_seed"].tolist())
    assert (fakes == data.pixels()[rows]).all()


def test_a_bank_without_measurements_names_the_commands(data: Dataset, tmp_path: Path) -> None:
    bank = bank_of_heads(tmp_path / "bank", data)
    space = {"dataset": str(data.root), "bank": bank.store.uri}
    fakes, _ = known_fakes(space, made_rows())
    told = words(made_material(fakes=fakes))
    assert f"run fgaug bank quality {bank.store.uri} --dataset {data.root} ." in told
    assert f"run fgaug bank score {bank.store.uri} --dataset {data.root} ." in told
    assert scores_of(bank, [0.5, 1.0]) is None


def test_a_run_without_fakes_has_no_such_chapter(data: Dataset) -> None:
    rows = made_rows()
    rows = rows[rows["mode"].isin(["baseline", "oversample"])]
    assert fake_chapters(made_material(rows=rows, arms=by_arm(rows))) == ()
    space = {"dataset": str(data.root), "bank": "nowhere"}
    assert known_fakes(space, rows) == ((), "no arm uses fakes")
    assert known_fakes({"dataset": str(data.root)}, made_rows())[1] == "the grid names no bank"
    lost, why = known_fakes(space, made_rows())
    assert lost == ()
    assert "nowhere" in why
    told = words(made_material(fakes=lost, no_fakes=why))
    assert f"No information about the fakes: {why}." in told
    assert tuple(chapters_of(made_material())) == KEYS


def test_measures_become_predictors(material: Material) -> None:
    kept = material.fakes[0].kept
    assert kept is not None
    frame = measures_frame(kept, "a")
    assert {"fid", "coverage", "copies", "nearer", "frequencies", "variation"} < set(frame.columns)
    assert len(frame) == 4
    assert frame["snapshot"].eq("a").all()


def test_the_chapters_of_a_bank_that_could_not_be_measured_say_why() -> None:
    from fgaug.analysis.report.fakes.sets import known_parts
    from fgaug.quality.fake_sets.record import SetRecord

    key = {"label": "dbp", "psi": 1.0, "filter": "none", "reason": "too few of them."}
    tables = {"sets": [key], "copies": [key], "spectrum": [key], "machines": []}
    parts = known_parts(SetRecord(head={"features": "x", "pr_features": "x"}, tables=tables))
    told = " ".join(part.text for part in parts if isinstance(part, Text))
    assert told.count("too few of them.") == 3


def test_banks_are_told_apart_by_the_name_of_their_snapshot(data: Dataset, bank: Bank) -> None:
    entries = [{"name": "early", "bank": bank.store.uri}, {"name": "late", "bank": bank.store.uri}]
    space = {"dataset": str(data.root), "axes": {"snapshot": entries}}
    fakes, _ = known_fakes(space, made_rows())
    told = words(made_material(fakes=fakes))
    assert "early" in told
    assert "late" in told
    assert open_bank(bank.store).spec.size == 32
