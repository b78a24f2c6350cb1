"""The notebook of docs/: committed clean, and run from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

import fgaug

NOTEBOOK = Path(__file__).parent.parent / "docs" / "search.ipynb"


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 6
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_notebook_runs(tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises where a cell does
    frame = fgaug.load_results(tmp_path / "runs" / "notebook")
    assert sorted(frame["mode"]) == sorted(["baseline", "augmentation", "oversample"] * 2)
    assert (frame["status"] == "ok").all()
    assert frame["valid_auc"].between(0.5, 1).all()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert "image/png" in shown, "the plot"
    assert shown.count("text/html") >= 4, "the tables"
    recomputed = fgaug.load_predictions(tmp_path / "runs" / "notebook")
    right = (recomputed["p_trv"] > recomputed["p_dbp"]) == (recomputed["label"] == "trv")
    accuracy = right.groupby(recomputed["cell_id"]).mean()
    assert (frame.set_index("cell_id")["valid_acc"] - accuracy).abs().max() < 1e-6
