"""The comparison with fastai, as far as it runs without fastai: draws, intervals, the table."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import fastai_peer
import fastai_peer_depthwise as depthwise
import fastai_peer_sets as sets
import fastai_peer_table as table

PAIRS = np.repeat([f"p{number}" for number in range(400)], 2)
PATIENTS = {
    "two images each": np.repeat(np.arange(300), 2),
    "one to four images": np.repeat(np.arange(250), 1 + np.arange(250) % 4),
    "names, shuffled": np.random.RandomState(5).permutation(PAIRS),
}


@pytest.mark.parametrize("patient", PATIENTS.values(), ids=PATIENTS)
@pytest.mark.parametrize("counts", [(324, 100), (102, 34), (8,)])
def test_parts_have_their_counts_and_share_no_patient(
    patient: np.ndarray, counts: tuple[int, ...]
) -> None:
    part = sets.draw_by_patient(patient, counts, seed=19)
    assert [int(np.sum(part == which)) for which in range(len(counts))] == list(counts)
    assert all(len(np.unique(part[patient == name])) == 1 for name in np.unique(patient))


def test_the_draw_is_by_seed_and_by_patient_not_by_row() -> None:
    patient = PATIENTS["one to four images"]
    first = sets.draw_by_patient(patient, (100, 50), seed=1)
    assert np.array_equal(first, sets.draw_by_patient(patient, (100, 50), seed=1))
    assert not np.array_equal(first, sets.draw_by_patient(patient, (100, 50), seed=2))
    rows = np.random.RandomState(0).permutation(len(patient))
    assert np.array_equal(first[rows], sets.draw_by_patient(patient[rows], (100, 50), seed=1))


def test_each_patient_is_drawn_equally_often() -> None:
    patient = np.repeat(np.arange(40), 2)
    drawn = np.zeros(40)
    for seed in range(400):
        part = sets.draw_by_patient(patient, (20,), seed)
        drawn += (part[::2] == 0).astype(float)
    chi2 = float(np.sum((drawn - 100) ** 2) / 75) * 39 / 40
    assert 0.001 < stats.chi2.cdf(chi2, 39) < 0.999


def test_a_count_that_patients_cannot_make_up_is_refused() -> None:
    with pytest.raises(ValueError, match="7 images cannot be drawn by patient: 1 are missing"):
        sets.draw_by_patient(np.repeat(np.arange(5), 2), (7,), seed=0)


def test_smaller_copies_are_written_once_and_read_alike(tmp_path: Path) -> None:
    source, ids = tmp_path / "bus", [f"bus_{i}" for i in range(6)]
    (source / "crops_128").mkdir(parents=True)
    draw = np.random.RandomState(0)
    for name in ids:
        pixels = draw.randint(0, 256, (128, 128), dtype=np.uint8)
        Image.fromarray(pixels).save(source / "crops_128" / f"{name}.png")
    pathology = ["benign", "malignant"] * 3
    frame = pd.DataFrame({"ID": ids, "Case": [1, 1, 2, 2, 3, 3], "Pathology": pathology})
    frame.to_csv(source / "bus_data.csv", index=False)
    full, small = (sets.peer_set(source, "crops_128", s, 2, 2, tmp_path / "c") for s in (128, 32))
    assert full.pixels().shape == (6, 128, 128, 1)
    assert small.pixels().shape == (6, 32, 32, 1)
    assert sorted(full.table["part"]) == ["rest"] * 2 + ["train"] * 2 + ["valid"] * 2
    assert list(full.table["label"]) == [0, 1] * 3
    assert full.table.equals(small.table)
    written = [file.stat().st_mtime_ns for file in sorted(small.folder.iterdir())]
    again = sets.peer_set(source, "crops_128", 32, 2, 2, tmp_path / "c")
    assert written == [file.stat().st_mtime_ns for file in sorted(again.folder.iterdir())]


@pytest.mark.parametrize(("n", "m", "scale"), [(20, 20, 1.0), (5, 40, 3.0), (14, 10, 0.6)])
def test_the_interval_is_welchs(n: int, m: int, scale: float) -> None:
    draw = np.random.RandomState(n)
    a, b = draw.normal(0.76, 0.02, n), draw.normal(0.78, 0.02 * scale, m)
    found = table.welch(a, b)
    true = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx((true.low, true.high))


def test_the_interval_covers_as_often_as_it_says() -> None:
    draw = np.random.RandomState(7)
    hits = 0
    for _ in range(2000):
        found = table.welch(draw.normal(0.7, 0.04, 12), draw.normal(0.72, 0.02, 20))
        hits += found.low < -0.02 < found.high
    assert abs(hits / 2000 - 0.9) < 5 * math.sqrt(0.9 * 0.1 / 2000)


@pytest.mark.parametrize(
    ("a", "b", "within"),
    [
        ([0.7, 0.702, 0.698], [0.701, 0.7, 0.699], True),
        ([0.7, 0.702, 0.698], [0.72, 0.721, 0.719], False),  # surely different
        ([0.65, 0.75, 0.7], [0.7, 0.64, 0.76], False),  # not known well enough
        ([0.7, 0.7], [0.7, 0.7], True),
        ([0.7], [0.7, 0.7], False),  # one seed says nothing
    ],
)
def test_what_counts_as_equal(a: list[float], b: list[float], within: bool) -> None:
    assert table.welch(np.array(a), np.array(b)).within_margin == within


def rows(**changed: Any) -> pd.DataFrame:
    own = {"head": "ours", "dropout": "ours", "order": "ours", "augmentation": "ours"}
    setting = {"images": "crops_128", "size": 64, "n_train": 324, "n_valid": 400}
    setting |= {"epochs": 8, "patience": 5}
    lines = []
    for program, base in (("fastai", 0.70), ("fgaug", 0.71)):
        for seed in range(1, 6):
            streams = own if program == "fgaug" else dict.fromkeys(own, "fastai")
            line = {**setting, "program": program, **streams, "seed": seed}
            found = {"last_auc": base - 0.01, "auc": base + 0.001 * seed}
            lines.append(line | found | changed)
    return pd.DataFrame(lines)


def test_the_report_has_a_line_for_each_set_and_arm() -> None:
    swapped = rows().query("program == 'fgaug'").assign(head="fastai", dropout="fastai")
    text = table.report(pd.concat([rows(), swapped, rows(images="images_128")]))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert [(line[0], line[3], line[4]) for line in lines[2:]] == [
        (images, streams, weights)
        for images, streams in (
            ("crops_128", "none"),
            ("crops_128", "head, dropout"),
            ("images_128", "none"),
        )
        for weights in ("best", "last")
    ]
    assert lines[2][5:9] == ["5", "0.7130 (0.0016)", "5", "0.7030 (0.0016)"]
    assert lines[2][9:] == ["+0.0100", "+0.0081 to +0.0119", "no"]
    assert lines[3][6] == "0.7000 (0.0000)"


def test_rows_of_one_program_alone_are_reported_too() -> None:
    text = table.report(rows().query("program == 'fgaug'").head(1))
    assert "| 1 | 0.7110 (-) | 0 | - |" in text


def test_finished_runs_are_found_again_and_a_cut_line_is_not(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    assert table.finished(file) == set()
    text = rows().to_csv(index=False)
    file.write_text(text)
    assert len(table.finished(file)) == 10
    assert table.key_of(rows().iloc[3].to_dict()) in table.finished(file)
    file.write_text(text[: text.rindex(",")])
    assert len(table.finished(file)) == 9


def test_pins_name_one_version_each() -> None:
    assert all(pin.count("==") == 1 for pin in fastai_peer.PINS)
    assert fastai_peer.PINS[0].startswith("fastai==")


@pytest.mark.parametrize(("side", "h", "w"), [(3, 1, 1), (5, 2, 2), (5, 4, 7), (7, 3, 9)])
def test_the_faster_backward_pass_is_the_same_function(side: int, h: int, w: int) -> None:
    torch.manual_seed(side * h)
    layer = nn.Conv2d(6, 6, side, padding=side // 2, groups=6, bias=False).double()
    x = torch.randn(3, 6, h, w, dtype=torch.double, requires_grad=True)
    plain = layer(x)
    toward = torch.randn_like(plain)
    true = torch.autograd.grad(plain, (x, layer.weight), toward)
    others = [nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), nn.Conv2d(6, 6, 1, bias=False)]
    assert depthwise.speed_up(nn.Sequential(layer, *others)) == 1
    fast = layer(x)
    found = torch.autograd.grad(fast, (x, layer.weight), toward)
    assert torch.equal(fast, plain)
    assert all(torch.allclose(one, two, atol=1e-12) for one, two in zip(found, true, strict=True))
