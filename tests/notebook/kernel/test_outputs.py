from __future__ import annotations

from tests.notebook.kernels import run, said, shown

SHOW = "from nblb.notebook.kernel.outputs import Place\nplace = Place.publish({'text/plain': 'first'})"
THREAD = (
    "import threading\n"
    "thread = threading.Thread(target=place.update, args=({'text/plain': 'second'},))\n"
    "thread.start(); thread.join(); print('here')"
)


def test_a_thread_draws_into_the_cell_that_showed_and_leaves_the_running_cell_its_output() -> None:
    notebook = run(SHOW, THREAD)
    assert shown(notebook, 0) == {"text/plain": "second"}
    assert said(notebook, 1) == "here\n"
    assert len(notebook.cells[2].outputs) == 1
