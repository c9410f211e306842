"""The cards of lb.jobs() and lb.inbox(), against a connection that only records messages."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from nblb.client.jobs import inbox as inboxes
from nblb.client.jobs.inbox import Finished, Inbox, variable, variable_of
from nblb.client.rows import JobInfo, JobList
from nblb.notebook.cards import list_card, static_html
from nblb.notebook.cards.list_card import InboxCard, JobsCard
from nblb.notebook.kernel.environment import Mode
from nblb.protocol.messages import CancelTask, CollectTask, ForgetJob
from tests.notebook.fakes import FakeJob

NOVEMBER = time.mktime((2026, 11, 24, 5, 30, 0, 0, 0, -1))


class Cluster:
    """As much of one as a list needs."""

    user = "anna"
    name = "lab"
    connected = True

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.asked: list[Any] = []
        say = self.said.append
        self.connection = SimpleNamespace(request=lambda: 7, send=say, carried_out=say, question=self.question)

    def question(self, message: Any, then: Any) -> None:
        self.asked.append((message, then))

    def attach(self, name: str) -> FakeJob:
        return FakeJob(f"job {name}")


def row(job: str, state: str = "running", user: str = "anna", done: int = 120, **more: Any) -> JobInfo:
    told = {"job": job, "name": f"<{job}>", "user": user, "items": 200, "counts": {"DONE": done, "FAILED": 2}}
    return JobInfo({**told, "state": state, "created_at": 1.0, "origin": "a/lab.ipynb#7", **more})


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def jobs_card(cluster: Cluster, *rows: JobInfo) -> tuple[JobsCard, JobList]:
    told = JobList(rows, cluster)  # type: ignore[arg-type]
    return JobsCard(told, Mode.HTML, str), told


def test_jobs_in_text_and_html(cluster: Cluster) -> None:
    about = {"created_at": NOVEMBER - 90, "task_name": "simulate", "expires_in_s": 3600.0}
    card, told = jobs_card(
        cluster, row("old", "done", done=198, ended_at=NOVEMBER, **about), row("new", created_at=NOVEMBER)
    )
    described = card.described(told)
    assert static_html.text(described).splitlines() == [
        "jobs: ▶ 1 job going on",
        "<new>: ▶ running, 122 of 200 tasks, 2 failed, lab.ipynb [7], since 2026-11-24 05:30",
        (
            "<old>: ✓ done, 200 of 200 tasks, 2 failed, simulate, lab.ipynb [7], 2026-11-24 05:30, after 1 min 30 s, "
            "kept for 1 h more"
        ),
    ]
    html = static_html.html(described)
    for words in ("&lt;new&gt;", '<progress value="61" max="100"', ">state</th>", "2026-11-24 05:30"):
        assert words in html
    assert [row["bad"] for row in described["list"]] == [1, 1]  # a bar that has failed in one place is not all red
    empty, none = jobs_card(cluster)
    assert static_html.text(empty.described(none)).startswith("jobs: no jobs\n")


def test_jobs_of_one_name_are_told_apart_by_their_code(cluster: Cluster) -> None:
    twins = [row(job, name="sweep", code=code * 16) for job, code in (("1", "a"), ("2", "b"))]
    card, told = jobs_card(cluster, *twins, row("3", code="c" * 16))
    shown = {row["id"]: " ".join(row["facts"]) for row in card.described(told)["list"]}
    assert ("code aaaaaaaa" in shown["1"], "code bbbbbbbb" in shown["2"]) == (True, True)
    assert "code" not in shown["3"]


def test_all_ended_jobs_are_forgotten_at_once(cluster: Cluster) -> None:
    ended = [row(f"old{n}", "done", ended_at=2.0) for n in range(60)]
    card, told = jobs_card(cluster, *ended, row("new"), row("theirs", "done", user="bob", ended_at=2.0))
    assert card.described(told)["can"]["forget_all"]
    assert card.act(told, "forget_all", None) == "60 jobs forgotten, with all results"
    assert {message.job for message in cluster.said} == {f"old{n}" for n in range(60)}
    lone, running = jobs_card(cluster, row("new"))
    assert not lone.described(running)["can"]["forget_all"]


def test_only_ones_own_jobs_can_be_ended(cluster: Cluster) -> None:
    card, told = jobs_card(cluster, row("mine"), row("theirs", user="bob"), row("over", "done", ended_at=2.0))
    found = {one["id"]: (one["can"], one["facts"][0]) for one in card.described(told)["list"]}
    assert found == {
        "mine": (["attach", "cancel"], "anna"),
        "theirs": (["attach"], "bob"),
        "over": (["attach", "forget"], "anna"),
    }


def test_buttons_of_a_job(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(user_ns={"job_mine": 3})
    monkeypatch.setattr(list_card, "shell", lambda: shell)
    card, told = jobs_card(cluster, row("mine"))
    assert card.act(told, "cancel", "mine") == "cancelling what has not ended"
    assert card.act(told, "forget", "mine") == "forgotten, with its results"
    assert [type(message) for message in cluster.said] == [CancelTask, ForgetJob]
    assert card.act(told, "attach", "mine").startswith("job_mine_2 is a variable now")
    assert shell.user_ns["job_mine_2"].name == "job mine"


def test_it_follows_the_core_without_waiting_for_it_until_a_newer_list_is_shown(cluster: Cluster) -> None:
    card, told = jobs_card(cluster, row("one"))
    told._asked_at = 0.0
    assert [one["id"] for one in card.described(told)["list"]] == ["one"]
    [(ask, then)] = cluster.asked
    assert (ask.topic, ask.about) == ("jobs", {})
    then(SimpleNamespace(value=[dict(row("one")), dict(row("two"))]))
    assert [one["id"] for one in card.described(told)["list"]] == ["one", "two"]
    assert not card.described(told)["over"]
    jobs_card(cluster)
    described = card.described(told)
    assert described["over"]
    assert "lb.jobs() was shown again since" in described["notes"][-1]


def test_a_long_list_is_cut_and_says_so(cluster: Cluster) -> None:
    described = (made := jobs_card(cluster, *(row(str(n)) for n in range(100))))[0].described(made[1])
    assert len(described["list"]) == 40
    assert described["notes"] == ["and 60 more"]


ENTRIES = [
    Finished("job", "j1", "sweep", "lab.ipynb", "7", "failed", 200, 37, NOVEMBER),
    Finished("task", "t1", "fit", "lab.ipynb", "c0ffee00", "done", 1, 0, NOVEMBER + 60),
]


def test_the_inbox(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "_taken", set())
    monkeypatch.setattr(inboxes, "_forgotten", set())
    box = Inbox(cluster, ENTRIES)  # type: ignore[arg-type]
    card = InboxCard(box, Mode.HTML, str)
    assert static_html.text(card.described(box)).splitlines() == [
        "inbox: ● 2 ended while nobody was here",
        "sweep: ✗ failed, 200 tasks, 37 failed, lab.ipynb [7], 2026-11-24 05:30",
        "fit: ✓ done, lab.ipynb, 2026-11-24 05:31",
        "Attach makes a variable of it; .recover() of all of them",
    ]
    assert card.act(box, "forget", "j1") == "forgotten, with its results"
    box.forget("fit")
    assert [type(message) for message in cluster.said] == [ForgetJob, CollectTask]
    described = card.described(box)
    assert [one["group"] for one in described["list"]] == ["forgotten", "forgotten"]
    assert [one["can"] for one in described["list"]] == [[], []]
    assert not described["can"]["rows"]
    assert described["look"] == ("", "nothing new")
    assert box.recover({}) == {}
    empty = Inbox(cluster, [])  # type: ignore[arg-type]
    assert "nothing new" in static_html.text(InboxCard(empty, Mode.HTML, str).described(empty))


def test_names_of_variables() -> None:
    assert variable("a sweep-3", {}) == "a_sweep_3"
    assert variable("3d", {"_3d", "_3d_2"}) == "_3d_3"
    thing = object()
    assert variable("f", {"f": thing}, thing) == "f"
    result = SimpleNamespace(name="fit")
    job = SimpleNamespace(name="fit", _task_name="fit", retry_failed=None)
    assert variable_of(result, {}) == "fit_result", "the cell that defines fit may run later"  # type: ignore[arg-type]
    assert variable_of(result, {"fit_result": 1}) == "fit_result_2"  # type: ignore[arg-type]
    assert variable_of(job, {}) == "fit_job"  # type: ignore[arg-type]
    job.name = "sweep"
    assert variable_of(job, {}) == "sweep"  # type: ignore[arg-type]
