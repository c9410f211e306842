from __future__ import annotations

import base64

import pytest

from nblb.client.futures.live import Knob, MimeBundle
from nblb.notebook.cards import live, static_html
from nblb.notebook.cards.job_card import JobCard
from nblb.notebook.cards.task_card import TaskCard
from nblb.notebook.kernel.environment import Mode
from tests.notebook.fakes import FakeJob, FakeTask

PNG = base64.b64encode(b"\x89PNG not really").decode()


def test_a_knob_of_each_kind() -> None:
    task = FakeTask()
    task.has_knobs()
    assert live.knobs(task) == [
        ["lr", "range", 0.1, 0.0, 1.0, 0.01],
        ["steps", "range", 5, 1, 20, 1],
        ["noise", "flag", True, None, None, 1],
        ["title", "text", "a run", None, None, "any"],
        ["limit", "number", 3.5, None, None, "any"],
    ]


def test_turning_keeps_the_knobs_kind() -> None:
    task = FakeTask()
    task.knobs = {"steps": Knob("steps", 5, 5, 1, 20), "lr": Knob("lr", 0.1, 0.1, 0.0, 1.0)}
    card = TaskCard(task, Mode.LIVE)  # type: ignore[arg-type]
    assert card.act(task, "knob", ["steps", 7.0]) == "steps is to be 7"  # type: ignore[arg-type]
    card.act(task, "knob", ["lr", 1])  # type: ignore[arg-type]
    assert [(type(value), value) for _, (_, value) in task.calls] == [(int, 7), (int, 1)]


def test_keep_is_offered_once_something_was_emitted() -> None:
    task = FakeTask()
    card = TaskCard(task, Mode.LIVE)  # type: ignore[arg-type]
    assert not card.look(task, 0.0).now["can"]["keep"]  # type: ignore[arg-type]
    task.emits(value={"loss": 0.5})
    now = card.look(task, 1.0).now  # type: ignore[arg-type]
    assert (now["can"]["keep"], now["emitted"]) == (True, "{'loss': 0.5}")
    assert card.act(task, "keep", None) == "it ends and keeps what it emitted last"  # type: ignore[arg-type]
    assert task.calls[0][0] == "keep"
    assert card.act(task, "why", None).startswith("3rd of")  # type: ignore[arg-type]


def test_the_first_look_of_a_card_has_the_pictures() -> None:
    task = FakeTask()
    task.emits({"image/png": PNG})
    card = TaskCard(task, Mode.LIVE)  # type: ignore[arg-type]
    assert len(card.look(task, 0.0).pictures or []) == 1  # type: ignore[arg-type]


def test_pictures_are_sent_five_times_a_second_while_they_are_small_and_new() -> None:
    task = FakeTask()
    task.emits({"image/png": PNG, "text/plain": "<Figure>"})
    looks = live.Pictures()
    assert [one["kind"] for one in looks.look(task, [task.said], 0.0) or []] == ["image/png"]
    task.emits({"image/png": PNG})
    assert looks.look(task, [task.said], 0.1) is None
    assert looks.look(task, [task.said], 0.21) is not None
    assert looks.look(task, [task.said], 3.0) is None
    task.emits({"image/png": PNG * 120_000})  # 2.4 MB, which is beyond the limit: its text is shown
    assert [one["kind"] for one in looks.look(task, [task.said], 5.0) or []] == ["text/plain"]
    task.emits({"image/png": PNG * 80_000})
    assert looks.look(task, [task.said], 7.0) is not None
    task.emits({"image/png": PNG})
    assert looks.look(task, [task.said], 10.0) is None  # a large one makes the next wait
    assert looks.look(task, [task.said], 10.0, final=True) is not None


def test_all_cards_that_draw_share_the_bytes() -> None:
    frame = PNG * (100_000 // len(PNG))
    tasks = [FakeTask() for _ in range(4)]
    cards = [live.Pictures() for _ in tasks]
    sent = 0
    for tick in range(1, 200):
        for task, card in zip(tasks, cards, strict=True):
            task.emits({"image/png": frame})
            sent += sum(len(one["data"]) for one in card.look(task, [task.said], tick * 0.05) or [])
    assert 0.5 * live.BYTES_S < sent / 10 < 1.2 * live.BYTES_S


def test_the_last_picture_of_a_job_stays_when_nothing_runs_any_more() -> None:
    job = FakeJob()
    job.emits({"image/png": PNG})
    looks = live.Pictures()
    assert looks.look(job, [job.said], 0.0)
    assert looks.look(job, [], 5.0, final=True) is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"image/svg+xml": "<svg/>", "text/plain": "x"}, "image/svg+xml"),
        ({"text/html": "<b>x</b>", "text/plain": "x"}, "text/html"),
        ({"text/plain": "x"}, "text/plain"),
    ],
)
def test_what_a_page_can_show(data: dict[str, str], kind: str) -> None:
    shown = live.plain(MimeBundle(data, item=3))
    assert (shown["kind"], shown["item"]) == (kind, 3)


def test_a_saved_notebook_keeps_the_latest_images_up_to_a_limit() -> None:
    shown = [{"kind": "image/png", "data": "A" * 150_000, "alt": f"figure {n}", "item": n} for n in range(4)]
    card = {"title": "t", "look": ("✓", "done"), "total": 4, "pictures": shown}
    html = static_html.html(card)
    assert html.count("<img ") == 2
    assert 'alt="figure 3"' in html
    assert "<figcaption>item 2</figcaption>" in html


def test_a_cell_of_the_strip_opens_the_item_that_failed() -> None:
    job = FakeJob(total=40, bad={17}, age=100)
    card = JobCard(job, Mode.LIVE)  # type: ignore[arg-type]
    card.act(job, "item", [16, 4])  # type: ignore[arg-type]
    opened = card.look(job, 0.0).now["item"]  # type: ignore[arg-type]
    assert opened["title"].startswith("item 17: ✗ failed")
    assert "in simulate" in opened["text"]
    card.act(job, "item", [39, 1])  # type: ignore[arg-type]
    assert card.look(job, 0.0).now["item"]["title"].startswith("item 39: ✓ done")  # type: ignore[arg-type]
    card.act(job, "item", None)  # type: ignore[arg-type]
    assert "item" not in card.look(job, 0.0).now  # type: ignore[arg-type]
    card.act(job, "item", [400, 1])  # type: ignore[arg-type]
    assert "item" not in card.look(job, 0.0).now  # type: ignore[arg-type]


def test_why_a_job_waits_is_asked_of_its_first_waiting_item() -> None:
    job = FakeJob(total=40, seconds=100)
    card = JobCard(job, Mode.LIVE)  # type: ignore[arg-type]
    assert card.act(job, "why", None).startswith("3rd of")  # type: ignore[arg-type]
