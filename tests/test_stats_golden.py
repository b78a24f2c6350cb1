"""Numbers made in R, through the script that users run; and that the script can fail."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from golden_module import FOLDER, families, golden_stats

CASES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
NULLS = {"or_01_5seeds": ["mrmcaov.ci95"]}  # what R left empty


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["golden_stats.py", str(folder)])
    return int(golden_stats.main())


def case(name: str) -> dict[str, Any]:
    return copy.deepcopy(CASES[name])


def test_every_family_has_a_stored_case() -> None:
    assert {stored["family"] for stored in CASES.values()} == set(families.FAMILIES)
    assert len(CASES) == 28


@pytest.mark.parametrize("name", CASES)
def test_stored_numbers_are_ours(name: str) -> None:
    row = golden_stats.compared(CASES[name])
    assert row.ok, row.misses
    left_out = NULLS.get(name, [])
    assert row.keys == row.total - len(left_out)
    assert [note.split(": ")[1] for note in row.notes] == left_out


def test_a_row_a_case_and_exit_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], odd_root: Path
) -> None:
    few = ["padjust_01", "signflip_01", "mcnemar_02_no_discordant"]
    for name in few:
        shutil.copy(FOLDER / f"{name}.json", odd_root)
    assert run(odd_root, monkeypatch) == 0
    out = capsys.readouterr().out
    assert "mcnemar_02_no_discordant" in out
    assert "14/14" in out
    assert out.endswith("3 of 3 cases agree\n")


def spoiled(value: Any) -> Any:
    """Return the value with its first number moved, and what was null given a number."""
    if isinstance(value, list):
        return [spoiled(value[0]), *value[1:]]
    if isinstance(value, str):
        return value + "?"
    return 0.3 if value is None else value * 1.01 + 0.01


@pytest.mark.parametrize("name", CASES)
def test_every_key_can_miss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, inputs = CASES[name]["family"], golden_stats.readable(CASES[name]["inputs"])
    ours = families.FAMILIES[family](inputs)
    monkeypatch.setitem(families.FAMILIES, family, lambda _: ours)
    for key, theirs in golden_stats.leaves(CASES[name]["expected"]):
        if theirs == []:
            continue
        broken = case(name)
        *above, last = key.split(".")
        place = broken["expected"]
        for part in above:
            place = place[part]
        place[last] = spoiled(theirs)
        row = golden_stats.compared(broken)
        assert not row.ok, key
        assert any(key in line for line in row.misses)


def test_null_is_not_a_number_and_a_number_is_not_null() -> None:
    hides = case("signflip_01")
    hides["expected"]["p_exact"] = None
    assert not golden_stats.compared(hides).ok
    for nan in ("NA", "NaN", float("nan"), None):
        undefined = case("mcnemar_02_no_discordant")
        undefined["expected"]["p_yates"] = nan
        assert golden_stats.compared(undefined).ok


@pytest.mark.parametrize("length", [1, 3])
def test_lists_of_another_length_miss(length: int) -> None:
    short = case("mcnemar_01_typical")
    short["expected"]["wald_ci95"] = [0.00728996414207007] * length
    assert not golden_stats.compared(short).ok


def test_a_key_without_our_number_misses() -> None:
    more = case("padjust_01")
    more["expected"]["hommel"] = [0.5] * 25
    row = golden_stats.compared(more)
    assert not row.ok
    assert row.misses == ["no such number here: hommel"]


def test_a_family_not_known_misses() -> None:
    other = case("padjust_01")
    other["family"] = "p_adjusted"
    row = golden_stats.compared(other)
    assert not row.ok
    assert row.misses == ["unknown family p_adjusted"]


def test_nothing_compared_is_no_agreement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = case("padjust_01")
    empty["expected"] = {}
    assert not golden_stats.compared(empty).ok
    assert run(tmp_path, monkeypatch) == 1
    assert "No *.json" in capsys.readouterr().err


def test_a_broken_file_misses_and_the_others_are_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(FOLDER / "signflip_01.json", tmp_path)
    (tmp_path / "cut.json").write_text('{"id": "cut", "family": "mcnemar"')
    (tmp_path / "bare.json").write_text('{"id": "bare", "family": "mcnemar"}')
    assert run(tmp_path, monkeypatch) == 1
    out = capsys.readouterr().out
    assert "JSONDecodeError" in out
    assert "KeyError" in out
    assert "1 of 3 cases agree" in out


def test_arms_in_another_order_are_compared_by_name() -> None:
    turned = case("dunnett_03_small")
    expected = turned["expected"]
    turned["expected"] = {
        key: value[::-1] if isinstance(value, list) else value for key, value in expected.items()
    }
    assert golden_stats.compared(turned).ok
    turned["expected"]["cells"] = ["c2", "c9"]
    assert not golden_stats.compared(turned).ok


def test_tolerances_by_name_and_by_default() -> None:
    near = case("signflip_01")
    near["expected"]["p_exact"] += 1e-4
    assert not golden_stats.compared(near).ok
    near["tolerance"]["p_exact"] = 2e-4
    assert golden_stats.compared(near).ok
    near["tolerance"] = {"other": 1.0}  # says nothing of this key: the strict default holds
    assert not golden_stats.compared(near).ok
