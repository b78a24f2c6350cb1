"""The demo whole, as a user runs it, and its page in a browser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import browser
import pytest

import fgaug

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


def test_the_demo_ends_with_a_report(tmp_path: Path) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "fgaug", "demo", "--out", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert demo.returncode == 0, demo.stderr
    last = demo.stdout.strip().splitlines()[-1]
    page = Path(last.removeprefix("report: "))
    browser.check(page, tmp_path / "profile", images=8)
    frame = fgaug.load_results(tmp_path / "demo" / "run")
    assert len(frame) == 22
    assert set(frame["mode"]) == {"baseline", "oversample", "augmentation"}
    assert frame["psi"].nunique() == 2
    assert frame["seed"].nunique() == 2
    assert set(frame["snapshot"].dropna()) == {"gan", "oracle"}
    assert set(frame.loc[frame["snapshot"].eq("gan"), "leakage"]) == {"none"}
    text = page.read_text(encoding="utf-8")
    assert all(f"snapshot {name}" in text for name in ("gan", "oracle"))
    baseline = frame[frame["mode"] == "baseline"]["valid_acc"]
    assert 0.7 <= baseline.mean() <= 0.9, "the phantom is neither trivial nor hopeless"
