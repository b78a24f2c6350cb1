"""Reports in a browser, of a made run and of a real one: whole, quiet, as wide as the window."""

from __future__ import annotations

from pathlib import Path

import browser
import numpy as np
import pytest
import yaml
from made_report import arm_id, made_material, made_rows
from PIL import Image
from small_grid import grid

from fgaug.analysis.report import write
from fgaug.analysis.report.contents import sections
from fgaug.analysis.report.files import draw_all
from fgaug.analysis.report.page import render
from fgaug.data.prepare import prepare
from fgaug.runs.environment import Environment
from fgaug.study import search

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = "a_name_without_a_blank_" * 12


def test_a_made_report_with_long_words_opens_whole(tmp_path: Path) -> None:
    rows = made_rows()
    rows["error"] = None
    lost = rows["arm_id"].eq(arm_id("augmentation", 1.0, 2.0))
    rows.loc[lost, ["status", "error"]] = ["failed", LONG]
    rows["recipe.model"] = LONG
    strata = made_material().strata
    assert strata is not None
    material = made_material(
        rows=rows,
        name=LONG,
        strata=strata.replace("A", LONG),
        environment=Environment(command=LONG, versions={LONG: LONG}),
        deviations=(LONG,),
        missing=1,
    )
    chapters = sections(material)
    page = tmp_path / "index.html"
    drawn = draw_all(chapters, png=False)
    page.write_text(render(name=LONG, sections=chapters, drawn=drawn), encoding="utf-8")
    browser.check(page, tmp_path / "profile", images=6)


def test_the_check_sees_what_is_wrong(tmp_path: Path) -> None:
    """A foil: a broken image, a wide block, an error and a fetch are each found."""
    start = '<!DOCTYPE html><meta name="viewport" content="width=device-width">'
    wrong = {
        "image": '<img alt="lost" src="data:image/png;base64,AAAA">',
        "wide": "<div style='width: 600px'>x</div>",
        "error": "<script>missing()</script>",
    }
    for name, body in wrong.items():
        page = tmp_path / f"{name}.html"
        page.write_text(start + body, encoding="utf-8")
        with pytest.raises(AssertionError):
            browser.check(page, tmp_path / f"profile_{name}", images=0)
    fine = tmp_path / "fine.html"
    fine.write_text(f"{start}<p>x</p>", encoding="utf-8")
    browser.check(fine, tmp_path / "profile_fine", images=0)


@pytest.mark.ray
def test_the_report_of_a_run_on_the_layout_of_bus_bra_opens_whole(tmp_path: Path) -> None:
    dataset = prepare(
        out=tmp_path / "dataset", size=32, preset="bus-bra", source=_bus_bra(tmp_path), test=0.2
    )
    assert dataset.spec.strata == ("device",)
    path = tmp_path / "grid.yaml"
    changes = {
        "name": "bus-bra",
        "generator": {"kind": "stub"},
        "axes": {
            "mode": ["augmentation", "replacement"],
            "psi": [0.5, 1.0],
            "ratio": [0.5, 1],
            "seed": [1, 2],
        },
        "remove": {"benign": 5, "malignant": 5},
        "controls": ["oversample", "drop"],
        "scheduler": {"type": "arm_asha", "eta": 2, "rungs": 2, "metric": "auc"},
    }
    path.write_text(yaml.safe_dump(grid(tmp_path, **changes)), encoding="utf-8")
    run = search.search(path, tmp_path / "run", dashboard=False)
    assert run.exit_code == 0
    page = write.report(run.root)
    text = page.read_text(encoding="utf-8")
    assert "Worst device: " in text
    assert "figures/fakes_1.png" in text
    names = {path.name for path in (page.parent / "figures").iterdir()}
    assert {"forest.svg", "forest.png", "roc.png", "confusion.svg", "fakes_1.png"} <= names
    browser.check(page, tmp_path / "profile", images=8)


def _bus_bra(root: Path) -> Path:
    """Make images in BUS-BRA's layout: dark lesions, smoother where benign; two devices."""
    rng = np.random.default_rng(19)
    source = root / "source"
    (source / "crops_128").mkdir(parents=True)
    lines = ["ID,Case,Pathology,Device,Width,Height,BBOX"]
    for number in range(120):
        patient = number // 2
        label = ("benign", "malignant")[patient % 2]
        device = ("GE Logiq 5", "Toshiba Aplio 300 @ 5-14 MHz")[patient % 3 == 0]
        name = f"bus_{number:04d}-l"
        lines.append(f'{name},{patient},{label},{device},48,48,"[4,5,10,8]"')
        image = rng.normal(110, 12 if label == "benign" else 24, (48, 48))
        image[12:36, 10:38] -= 50
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(source / "crops_128" / f"{name}.png")
    (source / "bus_data.csv").write_text("\n".join(lines), encoding="utf-8")
    return source
