"""Running cells in a real kernel without a browser, and reading what stays in the notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SETUP = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.notebook import fakes\nfakes.install()"
WIDGETS = "application/vnd.jupyter.widget-state+json"


def run(*cells: str, timeout: int = 60) -> nbformat.NotebookNode:
    """The notebook after its cells have run; a cell that raises fails the test."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SETUP, *cells)])
    NotebookClient(notebook, timeout=timeout, kernel_name="python3").execute()
    return notebook


def shown(notebook: nbformat.NotebookNode, cell: int) -> dict[str, Any]:
    """The first rich output of a cell, counted without the one of the set-up."""
    rich = [output.data for output in notebook.cells[cell + 1].outputs if "data" in output]
    return dict(rich[0])


def said(notebook: nbformat.NotebookNode, cell: int) -> str:
    """What a cell printed."""
    return "".join(output.text for output in notebook.cells[cell + 1].outputs if output.output_type == "stream")


def models(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """The states of the cards' widgets."""
    states = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    return [dict(model["state"]) for model in states.values() if "nblb" in str(model["state"].get("_anywidget_id"))]
