"""Every notebook runs from start to end, in its own kernel on its own cluster, and shows what it describes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# What a test has less of: what is shown does not depend on how much scikit-learn computes.
LESS = {"1-first-task": [("folds=5", "folds=2")]}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nblb import launch

    folder = tmp_path / "notebooks"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    given = json.loads((folder / "parameters.json").read_text())
    (folder / "parameters.json").write_text(json.dumps({**settings, **given, "LB_STATE_DIR": settings["LB_STATE_DIR"]}))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(folder / path.name, as_version=4)
    for before, after in LESS.get(path.stem, []):
        (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and before in cell.source]
        cell.source = cell.source.replace(before, after)
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    try:
        client.execute()
    finally:
        launch.stop(str(folder / "parameters.json"))
    if path.name.startswith("1-"):
        first_task(notebook)


def first_task(notebook: Any) -> None:
    output = [text_of(cell) for cell in notebook.cells if cell.cell_type == "code"]
    said = "\n".join(output)
    assert "% of the digits right" in said
    failure = next(text for text in output if "Traceback" in text)
    assert "clone(model).fit(" in failure, "the traceback shows the line of the cell"
    assert "CANCELLED" in said
    assert any("image/png" in kinds_of(cell) for cell in notebook.cells), "the plot"
    cards = [cell for cell in notebook.cells if "application/vnd.jupyter.widget-view+json" in kinds_of(cell)]
    pictures = [cell for cell in notebook.cells if "text/html" in kinds_of(cell)]
    assert cards or pictures, "the cards of cluster and job"
    job = next(cell for cell in notebook.cells if cell.source.rstrip().endswith("\njob"))
    assert "100 %, 44 of 44 tasks" in text_of(job), "the end of the job, not how it began"
    cluster = next(cell for cell in notebook.cells if cell.source.startswith("%lb_start"))
    assert "stopped" in text_of(cluster), "the last cell has stopped it"


def kinds_of(cell: Any) -> set[str]:
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}


def text_of(cell: Any) -> str:
    texts = [
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])
    ]
    return "".join(texts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_without_outputs(path: Path) -> None:
    """Outputs of a run are not for the repository: they change each time, and can be large."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert "widgets" not in notebook.metadata
