"""Runs cells in a real kernel without a browser, and reads what stays in the notebook."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SETUP = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.notebook import fakes\nfakes.install()"
WIDGETS = "application/vnd.jupyter.widget-state+json"


def run(*cells: str, timeout: int = 200) -> nbformat.NotebookNode:
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


@contextlib.contextmanager
def kernel(*cells: str) -> Iterator[tuple[KernelManager, Any]]:
    """A kernel in which these cells have run, with its client; for what a whole notebook cannot show."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=100)
        for cell in (SETUP, *cells):
            client.execute(cell, reply=True, timeout=100)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def until_printed(client: Any, text: str) -> None:
    """Returns when the running cell has printed this."""
    while client.get_iopub_msg(timeout=60)["content"].get("text") != text:
        pass


def outputs_of(client: Any, request: str) -> list[dict[str, Any]]:
    """What a request has put out, once it is over."""
    found: list[dict[str, Any]] = []
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["content"] == {"execution_state": "idle"}:
            return found
        found.append(message["content"])


def evaluated(client: Any, expression: str, timeout: float = 60) -> str:
    """What an expression is in the kernel, as its repr."""
    reply = client.execute("", user_expressions={"it": expression}, reply=True, timeout=timeout)["content"]
    found = reply["user_expressions"]["it"]
    return str(found["data"]["text/plain"] if found["status"] == "ok" else found)
