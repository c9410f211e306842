from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from nblb.notebook.cards import card as cards
from nblb.notebook.cards.job_card import JobCard
from nblb.notebook.cards.task_card import TaskCard
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeJob, FakeTask
from tests.notebook.kernels import models, run, said, shown


def test_a_job_leaves_its_last_picture_in_the_notebook_and_no_dead_box() -> None:
    notebook = run(
        "job = fakes.FakeJob(total=300, seconds=0.1, workers=20, bad={3}, age=-3600)\njob",
        "job.started -= 3600\nfakes.until_drawn(job)",  # nbclient hears no picture that is drawn between two cells
    )
    data = shown(notebook, 0)
    assert sorted(data) == ["text/html", "text/plain"]
    assert "300 of 300 tasks, 1 failed" in data["text/plain"]
    assert "300 of 300 tasks, 1 failed" in data["text/html"]
    assert "picture of" not in data["text/html"]
    [model] = models(notebook)
    assert model["now"]["percent"] == 100
    assert model["now"]["can"]["retry"]
    assert f"nblb-live-{model['key']}" in data["text/html"]
    assert model["failures"][0]["traceback"].startswith("Traceback")


def test_an_executed_notebook_keeps_the_end_of_what_ended_in_its_last_cell() -> None:
    notebook = run(
        "job = fakes.FakeJob(total=50, age=-3600)\njob",
        "task = fakes.FakeTask(age=-3600)\ntask",
        "task.started -= 7200\njob.started -= 7200",
    )
    assert "50 of 50 tasks" in shown(notebook, 0)["text/plain"]
    assert "✓ done" in shown(notebook, 1)["text/plain"]


def test_an_end_between_two_cells_is_drawn_again_in_the_next_one() -> None:
    job = FakeJob(total=4, age=-1000)
    card = JobCard(job, Mode.HTML)
    drawn: list[dict[str, Any]] = []
    card._places = [SimpleNamespace(update=drawn.append)]  # type: ignore[list-item]
    card.tick(1.0)
    assert not card.has_last_word()
    job.started -= 5000
    assert card.has_last_word()
    card.tick(2.0)
    assert (card.has_last_word(), len(drawn)) == (True, 1)
    card.cell_over(3.0)
    assert (card.has_last_word(), len(drawn)) == (False, 2)
    assert drawn[0] == drawn[1]


def test_one_widget_for_ten_thousand_tasks_and_for_every_cell_that_shows_it() -> None:
    notebook = run("job = fakes.FakeJob(total=10_000)\njob", "job", "import time; time.sleep(1.5)")
    [model] = models(notebook)
    assert model["now"]["total"] == 10_000
    assert shown(notebook, 1)["text/html"].count(model["key"]) == 1
    assert len(str(model["now"])) < 2500


@pytest.mark.parametrize(("wish", "kinds"), [("html", ["text/html", "text/plain"]), ("text", ["text/plain"])])
def test_without_widgets_the_picture_is_drawn_anew(wish: str, kinds: list[str]) -> None:
    notebook = run(
        f"import os; os.environ['NBLB_UI'] = {wish!r}\ntask = fakes.FakeTask(seconds=1.0)\ntask",
        "fakes.until_drawn(task)",
    )
    data = shown(notebook, 0)
    assert sorted(data) == kinds
    assert "✓ done" in data["text/plain"]
    assert not models(notebook)


def test_where_outputs_are_apart_the_view_gives_way_to_the_picture_at_the_end() -> None:
    notebook = run(
        "__vsc_ipynb_file__ = 'a.ipynb'\njob = fakes.FakeJob(total=50, seconds=0.1, workers=10, age=-3600)\njob",
        "slow = fakes.FakeJob(total=5000, seconds=1)\nslow",
        "job.started -= 3600\nfakes.until_drawn(job)",  # nbclient hears no picture that is drawn between two cells
    )
    assert "application/vnd.jupyter.widget-view+json" not in shown(notebook, 0)
    assert "50 of 50 tasks" in shown(notebook, 0)["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in shown(notebook, 1)


COLAB = """import sys, types
colab, output = types.ModuleType("google.colab"), types.ModuleType("google.colab.output")
output._widgets = types.SimpleNamespace(_installed_url=None)
output.enable_custom_widget_manager = lambda: setattr(output._widgets, "_installed_url", "manager.js")
sys.modules.update({"google.colab": colab, "google.colab.output": output})
job = fakes.FakeJob(total=5000, seconds=1)
job"""


def test_colab_is_told_where_its_widget_manager_is_whenever_a_view_is_drawn() -> None:
    again = "from nblb.notebook.display_hooks import _cards\n_cards[job]._draw(over=False)"
    told = {"application/vnd.jupyter.widget-view+json": {"colab": {"custom_widget_manager": {"url": "manager.js"}}}}
    for cells in ((COLAB,), (COLAB, again)):
        [card] = [output for output in run(*cells).cells[1].outputs if "data" in output]
        assert card.metadata == told


def test_off_is_the_plain_repr() -> None:
    notebook = run("import os; os.environ['NBLB_UI'] = 'off'\nfakes.FakeJob()")
    assert shown(notebook, 0) == {"text/plain": "<Job sweep>"}


def test_cards_go_on_while_the_kernel_computes() -> None:
    notebook = run(
        "job = fakes.FakeJob(total=100_000)\njob",
        "from nblb.notebook.display_hooks import _cards\nbefore = _cards[job].widget.now['counts']\n"
        "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: sum(range(10_000))\n"
        "print(before != _cards[job].widget.now['counts'])",
    )
    assert said(notebook, 1) == "True\n"


class Model:
    """What a card needs of a widget, remembering what it was sent."""

    def __init__(self, **traits: Any) -> None:
        self.__dict__.update(traits)
        self.sent: list[Any] = []
        self.strip = b""

    def hold_sync(self) -> Any:
        return contextlib.nullcontext()

    def send_state(self, names: list[str]) -> None:
        self.sent.append(names)


@pytest.fixture
def job_card(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeJob, JobCard]:
    monkeypatch.setattr(cards.sampler, "wake", lambda *_: None)
    job = FakeJob(total=8, bad={3}, age=10)
    card = JobCard(job, Mode.LIVE)  # type: ignore[arg-type]
    card.widget = Model(key=card.key)  # type: ignore[assignment]
    return job, card


def test_the_end_is_sent_twice_and_then_nothing_is_held(job_card: tuple[FakeJob, JobCard]) -> None:
    job, card = job_card
    assert card.tick(1.0) is None
    assert card.widget.sent == [["now", "failures", "strip", "pictures", "output", "said"]]  # type: ignore[union-attr]
    assert card._thing is None
    assert card._weak() is job


def test_a_button_acts_says_so_and_takes_the_card_up_again(job_card: tuple[FakeJob, JobCard]) -> None:
    job, card = job_card
    card._places = [SimpleNamespace(update=lambda bundle: None)]  # type: ignore[list-item]
    card.tick(1.0)
    card._clicked("retry", None)
    assert job.calls[0][0] == "retry"
    assert card.tick(0.0) is not None
    assert card.widget.said == "running the failed tasks again"  # type: ignore[union-attr]


def test_what_a_button_cannot_do_is_said_on_the_card(job_card: tuple[FakeJob, JobCard]) -> None:
    job, card = job_card
    job.cancel = lambda: 1 / 0  # type: ignore[method-assign]
    card._clicked("cancel", None)
    assert card._said == "ZeroDivisionError: division by zero"


def test_a_card_slows_down_when_it_has_been_watched_for_long() -> None:
    card = TaskCard(FakeTask(), Mode.LIVE)  # type: ignore[arg-type]
    assert card.pace(1.0) == cards.LIVE_S
    assert card.pace(1000.0) == 1.0


GONE = """import gc, time
from nblb.notebook.kernel import comm
before = len(comm.clicks._actions)
job = None
end = time.monotonic() + 10
while comm.clicks._actions and time.monotonic() < end:
    gc.collect()
    time.sleep(0.05)
print(before, len(comm.clicks._actions))"""


def test_a_card_whose_object_is_gone_is_forgotten_and_its_picture_stays() -> None:
    notebook = run(
        "from IPython.display import display\njob = fakes.FakeJob(total=80)\ndisplay(job)",
        "fakes.until_drawn(job)",
        GONE,
    )
    assert said(notebook, 2) == "1 0\n"
    assert "80 of 80 tasks" in shown(notebook, 0)["text/html"]


def test_a_job_that_ends_while_its_card_is_put_on_the_page_still_leaves_its_last_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[dict[str, Any]] = []
    woken: list[Any] = []
    place = SimpleNamespace(update=drawn.append)
    job = FakeJob(total=4, seconds=1000)
    card = JobCard(job, Mode.HTML)
    monkeypatch.setattr(cards.sampler, "wake", lambda tick, _delay_s=0.0: woken.append(tick))

    def publish(data: dict[str, Any], _metadata: Any) -> SimpleNamespace:
        assert "0 of 4" in data["text/plain"]
        job.started -= 5000
        assert card.tick(1.0) is None  # the sampler's thread takes the last look just now
        assert drawn == []
        return place

    monkeypatch.setattr(cards.Place, "publish", publish)
    card.show()
    assert woken[-1] == card.tick
    card.tick(2.0)
    assert "4 of 4" in drawn[-1]["text/plain"]
    card.tick(3.0)
    assert len(drawn) == 1


def test_a_cell_that_runs_again_shows_a_card_again_and_others_do_not() -> None:
    card = JobCard(FakeJob(), Mode.HTML)  # type: ignore[arg-type]
    assert not card.is_elsewhere("c1")
    card._cell_ids.add("c1")  # as `show` does in a kernel
    assert not card.is_elsewhere("c1"), "its output was cleared"
    assert card.is_elsewhere("c2")
    assert not card.is_elsewhere(""), "a front-end that sends no ids"
