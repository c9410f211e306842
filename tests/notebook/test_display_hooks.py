from __future__ import annotations

import pytest

from nblb.client import front_end
from nblb.notebook import display_hooks
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeCluster, FakeJob, FakeTask
from tests.notebook.kernels import run, said


@pytest.mark.parametrize(
    ("kind", "thing", "words"),
    [("job", FakeJob(), "of 200 tasks"), ("task", FakeTask(), "simulate"), ("cluster", FakeCluster(), "lab-5799")],
)
def test_a_picture_for_whoever_asks(kind: str, thing: object, words: str) -> None:
    bundle = display_hooks.picture(kind, thing)
    assert sorted(bundle) == ["text/html", "text/plain"]
    assert words in bundle["text/plain"]
    assert words in bundle["text/html"]


def test_without_a_kernel_the_repr_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_hooks, "mode", lambda: Mode.OFF)
    with pytest.raises(NotImplementedError):
        display_hooks.show("job", FakeJob())


def test_the_client_finds_the_pictures_by_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "_pictures", {})
    for kind in display_hooks.KINDS:
        front_end.register(kind, lambda thing, kind=kind: {"text/plain": kind})
    assert front_end.bundle("job", FakeJob()) == {"text/plain": "job"}


def test_loading_and_unloading_the_extension_in_a_kernel() -> None:
    notebook = run(
        "%load_ext nblb\n%reload_ext nblb\nfrom nblb.client import front_end\nfrom nblb.notebook import display_hooks\n"
        "print(sorted(front_end._pictures), front_end.pump() is not None)",
        "heard = get_ipython().events.callbacks['post_run_cell']\nbefore = heard.count(display_hooks.draw_ends)\n"
        "%unload_ext nblb\nafter = heard.count(display_hooks.draw_ends)\n"
        "print(sorted(front_end._pictures), front_end.pump(), before - after)",
    )
    kinds = [
        "cluster",
        "group",
        "here",
        "inbox",
        "interrupted",
        "job",
        "jobs",
        "mistake",
        "pump",
        "superseded",
        "task",
        "waits",
    ]
    assert said(notebook, 0) == f"{kinds} True\n"
    assert said(notebook, 1) == "[] None 1\n"


def test_start_shows_its_card_once_wherever_it_stands_in_its_cell() -> None:
    notebook = run(
        "%load_ext nblb\nimport nblb.launch\nnblb.launch.start = lambda *_, **__: fakes.FakeCluster()",
        "%lb_start\nx = 1",
        "cluster = %lb_start",
        "x = 2\n%lb_start  # the last line",
        "cluster",
    )
    counts = [len([output for output in cell.outputs if "data" in output]) for cell in notebook.cells[2:]]
    assert counts == [1, 1, 1, 1]


def test_a_cluster_brings_live_cards_without_the_extension_but_not_after_it_was_unloaded() -> None:
    use = (
        "from types import SimpleNamespace\nfrom nblb.client import front_end, open_clusters\n"
        "parameters = SimpleNamespace(LB_ON_INTERRUPT='detach', LB_SHOW_WAIT_S=0.5)\n"
        "open_clusters.use(SimpleNamespace(parameters=parameters, stopped=False))\n"
    )
    notebook = run(
        use + "print(sorted(front_end._pictures), '%lb_start' in get_ipython().magics_manager.magics['line'])",
        "from nblb.notebook import unload_ipython_extension as away\naway(get_ipython())\n"
        + use
        + "print(sorted(front_end._pictures))",
    )
    kinds = [
        "cluster",
        "group",
        "here",
        "inbox",
        "interrupted",
        "job",
        "jobs",
        "mistake",
        "pump",
        "superseded",
        "task",
        "waits",
    ]
    assert said(notebook, 0) == f"{kinds} False\n"
    assert said(notebook, 1) == "[]\n"


def test_pump_without_a_kernel_does_nothing() -> None:
    display_hooks.pump()


def test_a_name_that_was_taken_over_is_said_once() -> None:
    tell = "front_end.superseded(job, 'it takes over the name') or not_told"
    again = f"from nblb.client import front_end\njob = fakes.FakeJob()\n{tell}"
    notebook = run(
        "from nblb.notebook import display_hooks\ndisplay_hooks.install(get_ipython())", f"{again};", f"{again}\njob"
    )
    assert said(notebook, 1) == "it takes over the name\n"
    assert said(notebook, 2) == ""  # its card has it
