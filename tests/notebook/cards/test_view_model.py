from __future__ import annotations

import json
from dataclasses import replace

from nblb.client.snapshots import (
    ClusterSnapshot,
    FailureGroup,
    HubRow,
    JobSnapshot,
    OutputLine,
    RunningRow,
    TaskSnapshot,
)
from nblb.notebook.cards import static_html, view_model


def snapshot(**changes: object) -> JobSnapshot:
    fields: dict[str, object] = {
        "job": "j",
        "name": "sweep",
        "task_name": "simulate",
        "total": 200,
        "counts": {"DONE": 117, "FAILED": 6, "RUNNING": 8, "QUEUED": 69},
        "done_percent": 61.5,
        "rate_per_s": 3.0,
        "eta_s": (20.0, 30.0),
        "elapsed_s": 41.0,
    }
    return JobSnapshot(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_running_job() -> None:
    card = view_model.job(snapshot())
    assert (card["percent"], card["text"], card["over"]) == (61, "123 of 200 tasks, 6 failed", False)
    assert card["facts"] == ["3.0/s", "20 to 30 s left"]
    assert card["can"] == {"cancel": True, "retry": True, "why": False, "start": False}
    assert [word for _, _, word, _ in card["counts"]] == ["done", "failed", "running", "queued"]


def test_an_ended_job_can_be_retried_only_if_something_failed() -> None:
    assert not any(view_model.job(snapshot(counts={"DONE": 200}, state="done"))["can"].values())
    assert view_model.job(snapshot(counts={"DONE": 199, "LOST": 1}))["can"]["retry"]


def test_what_a_tick_sends_is_small_however_much_runs() -> None:
    rows = tuple(RunningRow(i, 40.0, "x" * 5000, "w", "host") for i in range(20))
    assert len(json.dumps(view_model.job(snapshot(total=10**7, running=rows)))) < 4000


def test_waiting_and_a_core_that_is_away_are_said() -> None:
    card = view_model.job(snapshot(waiting="no worker takes priority 2000", connected=False))
    assert card["notes"][1] == "waiting: no worker takes priority 2000"
    assert "away" in card["notes"][0]


def test_an_ended_job_does_not_go_on_when_the_core_is_back() -> None:
    assert view_model.job(snapshot(counts={"DONE": 200}, connected=False))["notes"] == []


def test_alike_failures_are_one_line() -> None:
    group = FailureGroup("ValueError", "x must be >= 0\nmore", "cell In[3] line 4", 36, (3, 9), "Traceback …")
    [failure] = view_model.job_failures(snapshot(failures=(group,)))
    assert failure["title"] == "36 × ValueError at cell In[3] line 4: x must be >= 0"
    assert failure["items"] == "items 3, 9, …"


def test_a_task() -> None:
    running = view_model.task(TaskSnapshot("1.0", "fit", "RUNNING", 40.0, "half way", host="lab2", attempt=2))
    assert (running["percent"], running["text"]) == (40, "running, 40 %")
    assert running["facts"] == ["half way", "on lab2", "attempt 2"]
    done = view_model.task(TaskSnapshot("1.0", "fit", "DONE", 40.0, duration_s=3.2))
    assert (done["percent"], done["over"], done["can"]["cancel"]) == (100, True, False)


def test_a_task_that_failed_says_how_far_it_said_that_it_was() -> None:
    def shown(state: str, progress: float) -> tuple[int, str, str]:
        card = view_model.task(TaskSnapshot("1.0", "fit", state, progress))
        return card["percent"], card["label"], card["text"]

    assert shown("FAILED", 43.7) == (43, "43 %", "failed at 43 %")
    assert shown("FAILED", 100.0) == (100, "100 %", "failed")  # its bar was full, and then it failed
    assert shown("LOST", 0.0) == (100, "", "lost")  # it never said: the bar is full of the state's pattern
    assert shown("RUNNING", 100.0) == (99, "99 %", "running, 99 %")
    assert "failed at 43 %" in static_html.text(view_model.task(TaskSnapshot("1.0", "fit", "FAILED", 43.7)))
    assert "43 %, failed" not in static_html.html(view_model.task(TaskSnapshot("1.0", "fit", "FAILED", 43.7)))


def test_the_last_picture_says_where_it_ran_and_which_code() -> None:
    over = snapshot(counts={"DONE": 200}, state="done", hosts=("lab1", "lab2"), code="00c0ffee" * 4)
    assert view_model.job(over)["facts"] == ["took 41 s", "on lab1, lab2", "code 00c0ffee"]
    again = replace(over, before=over.total - 20)
    assert view_model.job(again)["facts"][0] == f"{over.total - 20:,} had ended before, the rest took 41 s"
    assert view_model.job(replace(over, before=over.total))["facts"][0] == "had ended before"
    unnamed = snapshot(counts={"DONE": 200}, state="done", function="decade00" * 4)
    assert view_model.job(unnamed)["facts"][-1] == "function decade00"  # as a single task's record says it
    task = TaskSnapshot("1.0", "fit", "DONE", host="lab1", duration_s=2.0, function="decade00" * 4)
    assert view_model.task(task)["facts"] == ["on lab1", "took 2 s", "function decade00"]


def test_a_large_cluster_is_described_in_few_words() -> None:
    hubs = tuple(HubRow(f"h{n}", f"hub-{n}", "lab") for n in range(500))
    card = view_model.cluster(ClusterSnapshot("lab", True, "ipc:///x", hubs=hubs))
    assert (len(card["hubs"]), card["notes"]) == (view_model.MOST_HUBS, ["and 460 more hubs"])
    assert view_model.cluster(ClusterSnapshot("lab", False, "ipc:///x"))["notes"] == [view_model.LAST_HEARD]


def test_an_item_that_was_opened() -> None:
    failure = FailureGroup("ValueError", "no", traceback="Traceback …\nValueError: no")
    ended = TaskSnapshot(
        "1.17", "fit", "FAILED", host="lab2", duration_s=0.8, failure=failure, attempt=2, stdout_tail="y"
    )
    failed = view_model.item(17, ended, "sweep", "seed=3, n=1000")
    assert failed == {
        "title": "item 17: ✗ failed · on lab2 · 0.8 s · attempt 2",
        "call": "fit(seed=3, n=1000)",
        "text": "Traceback …\nValueError: no",
        "output": "y",
        "debug": "%lb_debug sweep[17]",
        "can": {"retry": True},
    }
    waits = view_model.item(3, TaskSnapshot("1.3", "fit", "QUEUED", waiting="2 tasks are before it", stdout_tail="x"))
    title = "item 3: … queued · 2 tasks are before it"
    assert waits == {"title": title, "call": "", "text": "", "output": "x", "debug": "", "can": {"retry": False}}


def test_waiting_can_be_asked_why() -> None:
    assert view_model.job(snapshot(state="waiting"))["can"]["why"]
    assert view_model.task(TaskSnapshot("1", "fit", "BLOCKED"))["can"]["why"]


def test_what_a_job_prints_is_few_lines_with_their_items() -> None:
    output = tuple(OutputLine(n, "stderr" if n == 29 else "stdout", "x" * 400) for n in range(30))
    lines = view_model.job(snapshot(output=output))["lines"]
    assert [line[0] for line in lines] == list(range(22, 30))
    assert lines[-1][1:] == ["stderr", "x" * 120]
    card = view_model.job(snapshot(output=output, output_lines=345))
    assert card["lines_note"] == "last 8 of 345 lines; %lb_logs sweep[29] shows all of item 29"
    assert "lines_note" not in view_model.job(snapshot(output=output[:8], output_lines=8))


def test_a_cluster_says_what_its_durability_promises_and_whether_it_is_up() -> None:
    up = ClusterSnapshot("lab", True, "ipc:///x", durability="none", queued=3, monitor_url="http://127.0.0.1:1")
    card = view_model.cluster(up)
    assert ("durability", "none: memory only: lost with the core") in card["rows"]
    assert (card["look"][1], card["unfinished"], card["can"]["monitor"]) == ("up", 3, True)
    stopped = view_model.cluster(up, stopped=True)
    assert (stopped["look"][1], stopped["over"]) == ("stopped", True)
    assert [name for name, yes in stopped["can"].items() if yes] == ["start"]
    assert [name for name, _ in stopped["rows"]] == ["durability", "owner"]  # nothing is busy any more
    assert stopped["notes"] == [view_model.STOPPED]


def test_a_picture_that_is_not_final_says_when_it_was_taken() -> None:
    assert view_model.as_of({"over": False})["notes"][0].startswith("picture of 2")
    assert view_model.as_of({"over": True}) == {"over": True}


def test_a_task_that_was_stopped_early_says_so() -> None:
    card = view_model.task(TaskSnapshot("t" * 32, "simulate", "DONE", kept=True))
    assert card["look"] == ("◑", "stopped early")
    assert card["text"] == "stopped early"
    opened = view_model.item(3, TaskSnapshot("t" * 32, "simulate", "DONE", kept=True))
    assert opened["title"].startswith("item 3: ◑ stopped early")


def test_other_code_that_has_made_some_of_the_results_is_named() -> None:
    ended = snapshot(counts={"DONE": 200}, code="a" * 32, codes=(("b" * 32, 3),))
    assert "code aaaaaaaa, 3 tasks by function bbbbbbbb" in view_model.job(ended)["facts"]


def test_a_core_that_never_answered_has_not_0_workers() -> None:
    card = view_model.cluster(
        ClusterSnapshot("lab", False, "ipc:///x", owner="me", warning="core pid 7 is gone", known=False)
    )
    assert card["rows"] == [("address", "ipc:///x"), ("owner", "me")]
    assert card["notes"] == ["core pid 7 is gone", view_model.NEVER_HEARD]
    known = view_model.cluster(ClusterSnapshot("lab", False, "ipc:///x", workers=3, busy=1, queued=34, warning="gone"))
    assert ("workers", "3 (1 busy)") in known["rows"]
    assert known["notes"] == ["gone", view_model.LAST_HEARD]


def test_the_card_of_a_cluster_shows_its_gpus() -> None:
    used = {"name": "T4", "percent": 50.0, "memory_mb": 16384, "used_mb": 1024}
    card = view_model.cluster(ClusterSnapshot("lab", True, "ipc:///x", hubs=(HubRow("h", "hub", "lab", gpus=[used]),)))
    assert ("GPU", "T4: 50 %, 1.0 GB of 16 GB") in card["rows"]
    hubs = tuple(HubRow(f"h{n}", f"hub-{n}", "lab", gpus=[used] * 10) for n in range(2))
    rows = view_model.cluster(ClusterSnapshot("lab", True, "ipc:///x", hubs=hubs))["rows"]
    assert ("GPU", "T4: 50 %, 1.0 GB of 16 GB on hub-1") in rows
    assert ("", "and 4 more GPUs") in rows
