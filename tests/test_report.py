"""The report's arms, tables and figures: against numbers worked out by hand, and of odd grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
import pytest

from fgaug.analysis.format import DASH
from fgaug.analysis.report.arm_summary import by_arm
from fgaug.analysis.report.chapters.learning_curves import MOST_ARMS, loss_figure
from fgaug.analysis.report.chapters.ratio import MOST_ROWS, ratio_figures
from fgaug.analysis.report.chapters.summary import best_arm, cells_by_status, warnings_of
from fgaug.analysis.report.chapters.tables import formatted, thesis_tables
from fgaug.analysis.report.drawing import LIGHT, Format, encoded
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.panels import panels
from fgaug.analysis.report.parts import Plot
from fgaug.grid.arm_names import further_axes

NAN = math.nan
SCRIPT = "<script>alert('x')</script>"
REMOVED = {"dbp": 500, "trv": 500}


def row(
    mode: str, psi: float | None, ratio: float | None, seed: int, **given: Any
) -> dict[str, Any]:
    arm = f"{mode}|{psi}|{ratio}|{given.get('remove')}|{given.get('fakes')}|{given.get('model')}"
    if "model" in given:
        given["recipe.model"] = given.pop("model")
    fakes = 0 if ratio is None else ratio
    return {
        "cell_id": f"{arm}|{seed}",
        "arm_id": arm,
        "mode": mode,
        "psi": psi,
        "ratio": ratio,
        "filter": None,
        "seed": seed,
        "status": "ok",
        "stopped_by": "budget",
        "error": None,
        "n_real": 300,
        "n_fake": int(300 * fakes),
        "budget_unit": "epochs",
        "n_fake_trv": int(100 * fakes),
        "n_fake_dbp": int(200 * fakes),
        "valid_acc": 0.8,
        "valid_auc": 0.85,
        "valid_loss": 0.46,
        "leakage": "unknown",
        **given,
    }


@pytest.fixture
def frame() -> pd.DataFrame:
    lost = {"valid_acc": NAN, "valid_auc": NAN, "valid_loss": NAN}
    return pd.DataFrame(
        [
            row("oversample", None, 2, 1, valid_auc=0.86),
            row("augmentation", 0.7, 2, 1, valid_acc=0.80, valid_auc=0.90, valid_loss=0.4),
            row("augmentation", 0.7, 2, 2, valid_acc=0.82, valid_auc=0.88, valid_loss=0.5),
            row("augmentation", 0.7, 2, 3, valid_acc=0.87, valid_auc=0.92, valid_loss=0.6),
            row("augmentation", 0.7, 0.5, 1),
            row("augmentation", 0.7, 0.5, 2, status="failed", error=SCRIPT, **lost),
            row("augmentation", 0.7, 0.5, 3, status="pruned", valid_acc=0.1, valid_auc=0.1),
            row("augmentation", 0.7, 1, 1, status="failed", error="loss is NaN", **lost),
            row("augmentation", 0.7, 4, 1, valid_auc=NAN),
            row("augmentation", 0.7, 4, 2, valid_auc=0.7),
            row("baseline", None, None, 1, valid_auc=0.84),
            row("baseline", None, None, 2, valid_auc=0.86),
        ]
    )


def drawn(plot: Plot, fmt: Format = "svg") -> bytes:
    return encoded(plot.draw(LIGHT), fmt)


def arm(arms: pd.DataFrame, mode: str, ratio: float | None) -> pd.Series[Any]:
    same = arms["ratio"].isna() if ratio is None else arms["ratio"].eq(ratio)
    (found,) = [r for _, r in arms[arms["mode"].eq(mode) & same].iterrows()]
    return found


def test_an_arm_has_the_mean_and_population_sd_of_its_seeds(frame: pd.DataFrame) -> None:
    found = arm(by_arm(frame), "augmentation", 2)
    assert found["seeds"] == 3
    assert found["valid_acc_mean"] == pytest.approx(0.83)
    # by hand: ((-0.03)^2 + (-0.01)^2 + 0.04^2) / 3 = 0.0026 / 3; divided by n, not n - 1
    assert found["valid_acc_sd"] == pytest.approx(math.sqrt(0.0026 / 3))
    assert (found["valid_acc_max"], found["valid_acc_min"]) == (0.87, 0.80)
    assert found["valid_auc_sd"] == pytest.approx(math.sqrt(0.0008 / 3))
    assert found["valid_loss_mean"] == pytest.approx(0.5)
    assert (found["n_real"], found["n_fake_trv"], found["n_fake_dbp"]) == (300, 200, 400)


def test_failed_and_pruned_rows_are_counted_but_not_averaged(frame: pd.DataFrame) -> None:
    found = arm(by_arm(frame), "augmentation", 0.5)
    assert (found["seeds"], found["failed"], found["pruned"]) == (1, 1, 1)
    assert found["valid_acc_mean"] == 0.8
    nothing = arm(by_arm(frame), "augmentation", 1)
    assert (nothing["seeds"], nothing["note"]) == (0, "no seed finished: 1 failed")
    assert math.isnan(nothing["valid_acc_mean"])
    assert nothing["n_fake"] == 300  # what was tried is known all the same
    assert cells_by_status(frame) == {"ok": 9, "pruned": 1, "failed": 2}


def test_one_seed_has_no_spread_and_an_undefined_auc_is_told(frame: pd.DataFrame) -> None:
    arms = by_arm(frame)
    single, holed = arm(arms, "augmentation", 0.5), arm(arms, "augmentation", 4)
    assert math.isnan(single["valid_acc_sd"])
    assert single["note"] == "one seed: no spread"
    assert (holed["seeds"], holed["valid_auc_mean"]) == (2, 0.7)
    assert holed["note"] == "AUC undefined in 1 of 2"


def test_a_mean_over_labels_says_how_many_seeds_it_leaves_out(frame: pd.DataFrame) -> None:
    """The precision of a label that is never predicted is undefined."""
    seeds = frame["mode"].eq("augmentation") & frame["ratio"].eq(2)
    frame.loc[seeds, ["precision_dbp", "precision_trv"]] = [[0.5, 0.7], [NAN, 0.8], [0.7, 0.9]]
    found = arm(by_arm(frame), "augmentation", 2)
    assert found["valid_precision_macro_mean"] == pytest.approx((0.6 + 0.8) / 2)
    assert found["note"] == "macro precision undefined in 1 of 3"
    assert "recall" not in found["note"], "rows of older versions lack it"


def test_a_table_begins_with_the_baseline_and_ends_with_controls(frame: pd.DataFrame) -> None:
    ((title, table),) = thesis_tables(by_arm(frame))
    assert title == "Augmentation psi 0.7"
    assert list(table["ratio"]) == ["bl", 0.5, 1, 2, 4, 2]
    assert list(table["mode"]) == ["baseline"] + ["augmentation"] * 4 + ["oversample"]
    text = formatted(table)
    # of two seeds 0.84 and 0.86: population sd 0.010, the sample's 0.01 x sqrt(2)
    assert list(text["AUC mean ± sd (n\N{MINUS SIGN}1)"]) == [
        "0.850 ± 0.010 (0.014)",
        f"0.850 ± {DASH}",
        DASH,
        "0.900 ± 0.016 (0.020)",
        f"0.700 ± {DASH}",
        f"0.860 ± {DASH}",
    ]
    assert list(text["AUC min to max"])[:3] == ["0.840 to 0.860", "0.850 to 0.850", DASH]
    assert text["arm"].iloc[-1] == "oversample (control)"
    assert list(text["fakes dbp"]) == ["0", "100", "200", "400", "800", "400"]
    assert list(text["failed"]) == ["0", "1", "1", "0", "0", "0"]
    assert "0.000" not in text.iloc[2].to_list()


def test_counts_stand_in_for_ratios() -> None:
    counts = {"trv": 3000, "dbp": 1000}
    frame = pd.DataFrame(
        [
            row("baseline", None, None, 1, fakes=None),
            row("synthetic", 1.0, None, 1, fakes=counts, n_fake=4000, n_fake_trv=3000),
            row("synthetic", 1.0, None, 2, fakes=counts, n_fake=4000, n_fake_trv=3000),
        ]
    )
    ((_, table),) = thesis_tables(by_arm(frame))
    text = formatted(table)
    assert "ratio" not in text
    assert list(text["fakes trv"]) == ["0", "3,000"]
    assert len(ratio_figures(by_arm(frame))) == 1


def test_a_further_axis_makes_tables_of_its_own_with_its_own_baseline() -> None:
    frame = pd.DataFrame(
        [
            row(mode, psi, ratio, seed, model=model, valid_auc=auc, pid=seed)
            for model, auc in (("resnet18", 0.8), ("resnet50", 0.9))
            for mode, psi, ratio in (("baseline", None, None), ("augmentation", 0.5, 1))
            for seed in (1, 2)
        ]
    )
    assert further_axes(frame) == ("recipe.model",)  # pid differs inside an arm: no axis
    tables = dict(thesis_tables(by_arm(frame)))
    assert list(tables) == [f"Augmentation psi 0.5 model resnet{n}" for n in (18, 50)]
    assert list(tables["Augmentation psi 0.5 model resnet50"]["auc_mean"]) == [0.9, 0.9]


def test_twins_stand_beside_the_arms_with_their_removals() -> None:
    frame = pd.DataFrame(
        [
            row("baseline", None, None, 1, remove=None),
            row("augmentation", 0.5, 1, 1, remove=None),
            row("oversample", None, 1, 1, remove=None, valid_auc=0.7),
            row("replacement", 0.5, 1, 1, remove=REMOVED),
            row("oversample", None, 1, 1, remove=REMOVED, valid_auc=0.6),
            row("drop", None, None, 1, remove=REMOVED, valid_auc=0.5),
            row("oversample", None, 9, 1, remove=None),
        ]
    )
    tables = dict(thesis_tables(by_arm(frame)))
    assert list(tables["Augmentation psi 0.5"]["auc_mean"]) == [0.85, 0.85, 0.7]
    replaced = tables["Replacement psi 0.5 remove dbp 500, trv 500"]
    assert list(replaced["auc_mean"]) == [0.85, 0.85, 0.6, 0.5]
    assert list(tables["Oversample (control)"]["ratio"]) == ["bl", 9]  # its arm is not here
    untold = panels(by_arm(frame.drop(columns="remove")))  # whose twins they are is not known
    assert all(panel.controls.empty for panel in untold if not panel.arms.empty)


def test_rounds_are_rows_of_one_arm() -> None:
    rounds = [row("synthetic", 1.0, None, s, round=r) for s in (1, 2) for r in (1, 5, 10)]
    frame = pd.DataFrame([row("baseline", None, None, 1, round=None), *rounds])
    ((_, table),) = thesis_tables(by_arm(frame))
    assert list(formatted(table)["round"]) == [DASH, "1", "5", "10"]
    assert cells_by_status(frame) == {"ok": 3, "pruned": 0, "failed": 0}
    assert b"<svg" in drawn(ratio_figures(by_arm(frame))[0])


def only(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    for name, value in wanted.items():
        frame = frame[frame[name].eq(value)]
    return frame


@pytest.mark.parametrize("fmt", ["svg", "png"])
def test_figures_of_odd_grids_are_images(frame: pd.DataFrame, fmt: Format) -> None:
    wide = pd.DataFrame([row("augmentation", psi, r, 1) for psi in (0.5, 1) for r in (0.1, 64)])
    odd = [only(frame, mode="baseline"), only(frame, ratio=2), only(frame, seed=1), wide]
    head = b"\x89PNG\r\n" if fmt == "png" else b"<?xml"
    for part in odd:
        (plot,) = ratio_figures(by_arm(part))
        data = drawn(plot, fmt)
        assert data.startswith(head)
        assert len(data) > 5000
    assert ratio_figures(by_arm(only(frame, status="failed"))) == []


def test_a_figure_is_the_same_bytes_each_time_and_leaves_no_state(frame: pd.DataFrame) -> None:
    salt = matplotlib.rcParams["svg.hashsalt"]
    (plot,) = ratio_figures(by_arm(frame))
    assert drawn(plot) == drawn(plot)
    assert matplotlib.rcParams["svg.hashsalt"] == salt


def test_a_figure_of_many_psis_shows_some_and_says_so() -> None:
    psis = [n / 20 for n in range(1, 21)]
    frame = pd.DataFrame([row("augmentation", psi, r, 1) for psi in psis for r in (1, 2)])
    (plot,) = ratio_figures(by_arm(frame))
    figure = plot.draw(LIGHT)
    assert len(figure.axes) // 3 <= MOST_ROWS
    assert f"{len(figure.axes) // 3} of 20 values" in plot.caption


def test_losses_of_many_arms_show_the_baseline_and_the_best_and_read_no_others() -> None:
    frame = pd.DataFrame(
        [row("baseline", None, None, 1, valid_auc=0.1)]
        + [
            row("augmentation", 0.5, ratio, 1, valid_auc=0.5 + ratio / 99)
            for ratio in range(1, 20)
        ]
    )
    asked: list[str] = []

    def curves(cells: Sequence[str]) -> pd.DataFrame:
        asked.extend(cells)
        return pd.DataFrame(
            {"cell_id": cell, "epoch": e, "train_loss": 0.5, "valid_loss": 0.5}
            for cell in cells
            for e in (0, 1)
        )

    given: dict[str, Any] = {"rows": frame, "arms": by_arm(frame), "space": {}}
    plot = loss_figure(Material(name="many", curves=curves, **given))
    assert plot is not None
    assert f"{MOST_ARMS} of 20 arms" in plot.caption
    best = [frame[frame["ratio"].eq(r)]["cell_id"].item() for r in (19, 18, 17, 16, 15)]
    assert sorted(asked) == sorted([frame["cell_id"].iloc[0], *best])
    assert loss_figure(Material(name="none", **given)) is None


def test_the_best_arm_is_told_as_a_pick_and_not_as_a_finding(frame: pd.DataFrame) -> None:
    text = best_arm(by_arm(frame))
    assert "augmentation psi 0.7 ratio 2, with 0.900 (3 seeds)" in text
    assert "against 0.850 (2 seeds) for the baseline (+0.050)" in text
    assert "oversample control" in text
    assert "selected out of 3 arms" in text  # the arm that only failed was not a candidate
    assert "no significance test" in text
    assert (
        best_arm(by_arm(only(frame, mode="baseline")))
        == "No arm with fakes has a validation AUC yet."
    )


def test_warnings_follow_the_budget(frame: pd.DataFrame) -> None:
    assert any("more fakes mean more steps" in text for text in warnings_of(frame, {}, 0))
    assert warnings_of(frame, {"budget": {"unit": "steps"}}, 0) == []
    assert "1 cell of the grid has no result" in warnings_of(frame, {}, 1)[0]
