"""emit, knob and early ends inside a real worker; bars and pictures of its libraries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nblb import payload
from nblb.protocol.commands import Steer
from nblb.protocol.messages import KnobOffered, RunTask, TaskEmitted, TaskFinished, TaskPrinted, TaskProgressed
from tests.hub.pool_rig import PoolRig


@pytest.fixture(scope="module")
def shared() -> Iterator[PoolRig]:
    rig = PoolRig()
    yield rig
    rig.pool.close()


@pytest.fixture
def rig(shared: PoolRig) -> PoolRig:
    shared.events.clear()
    return shared


def end(rig: PoolRig, run: RunTask) -> TaskFinished:
    return rig.wait(TaskFinished, lambda m: m.task == run.task)


def result(rig: PoolRig, run: RunTask) -> Any:
    finished = end(rig, run)
    assert finished.payload is not None, finished.failures
    return payload.unpack_results(finished.payload)[0]


def of(rig: PoolRig, kind: type, run: RunTask) -> list[Any]:
    return [m for _, m in rig.events if isinstance(m, kind) and m.task == run.task]


def steer(rig: PoolRig, run: RunTask, **what: Any) -> None:
    rig.pool.steer(Steer("worker_0", run.task, run.attempt, run.first, **what))


def test_emissions_are_coalesced_and_the_last_one_comes(rig: PoolRig) -> None:
    def many() -> None:
        import nblb as lb

        for number in range(20_000):
            lb.emit({"n": number})

    run = rig.give(many)
    result(rig, run)
    emitted = of(rig, TaskEmitted, run)
    assert len(emitted) < 20
    assert payload.unpack_results(emitted[-1].payload) == [{"n": 19_999}]


def test_a_task_that_falls_silent_is_heard_all_the_same(rig: PoolRig) -> None:
    def two_then_sleep() -> None:
        import time

        import nblb as lb

        lb.emit(1)
        lb.emit(2)
        time.sleep(0.5)

    run = rig.give(two_then_sleep)
    rig.wait(TaskEmitted, lambda m: m.task == run.task and payload.unpack_results(m.payload) == [2])
    assert not of(rig, TaskFinished, run)
    end(rig, run)


def test_what_cannot_travel_is_said_and_what_is_too_large_too(rig: PoolRig) -> None:
    def unpicklable() -> None:
        import threading

        import nblb as lb

        lb.emit(threading.Lock())

    def large() -> None:
        import nblb as lb

        lb.emit(bytes(9_000_000))

    assert end(rig, rig.give(unpicklable)).failures[0].kind == "NotSerializable"
    run = rig.give(large)
    result(rig, run)
    (emitted,) = of(rig, TaskEmitted, run)
    assert emitted.payload is None
    assert "too large" in emitted.bundle


def knobs_until(limit: int) -> list[Any]:
    import time

    import nblb as lb

    seen: list[Any] = []
    for _ in range(limit):
        value = lb.knob("lr", 1, min=0, max=10)
        if not seen or seen[-1] != value:
            seen.append(value)
        if value == 10:
            return seen
        time.sleep(0.005)
    return seen


def test_a_knob_is_offered_turned_and_kept_within_its_limits(rig: PoolRig) -> None:
    run = rig.give(knobs_until, 2000)
    offered = rig.wait(KnobOffered, lambda m: m.task == run.task)
    assert (offered.name, offered.value, offered.default, offered.minimum, offered.maximum) == ("lr", 1, 1, 0, 10)
    steer(rig, run, item=0, knob="lr", value=2.5)
    rig.wait(KnobOffered, lambda m: m.task == run.task and m.value == 2.5)
    steer(rig, run, item=-1, knob="other", value="x")
    steer(rig, run, item=0, knob="lr", value=4)
    rig.wait(KnobOffered, lambda m: m.task == run.task and m.value == 4)
    steer(rig, run, item=0, knob="lr", value=99)
    assert result(rig, run) == [1, 2.5, 4, 10]


def test_what_one_task_is_told_is_not_for_the_next(rig: PoolRig) -> None:
    first = rig.give(knobs_until, 2000)
    rig.wait(KnobOffered, lambda m: m.task == first.task)
    steer(rig, first, item=-1, knob="lr", value=10)
    steer(rig, first, item=-1, keep=True)
    end(rig, first)
    assert result(rig, rig.give(knobs_until, 3)) == [1]


def test_more_than_there_is_room_for_is_refused(rig: PoolRig) -> None:
    run = rig.give(knobs_until, 2000)
    rig.wait(KnobOffered, lambda m: m.task == run.task)
    steer(rig, run, item=0, knob="long", value="x" * 10_000)
    assert "no room" in rig.logged[-1]
    steer(rig, run, item=-1, keep=True)
    assert end(rig, run).failures[0].kind == "NothingEmitted"


def test_items_of_a_slice_end_early_each_for_itself(rig: PoolRig) -> None:
    def item(number: int) -> str:
        import time

        import nblb as lb

        for step in lb.track(range(20 if number != 1 else 2000)):
            lb.emit(f"{number} at {step > 0}")
            time.sleep(0.005)
        return f"{number} whole"

    run = rig.give_many(item, [0, 1, 2])
    rig.wait(TaskEmitted, lambda m: m.task == run.task and m.offset == 1)
    steer(rig, run, item=1, keep=True)
    finished = end(rig, run)
    assert finished.kept == (1,)
    assert payload.unpack_results(finished.payload)[::2] == ["0 whole", "2 whole"]
    assert payload.unpack_results(finished.payload)[1].startswith("1 at ")


def test_each_item_of_a_slice_has_its_own_output(rig: PoolRig) -> None:
    def talk(number: int) -> None:
        print("item", number, end="!")

    run = rig.give_many(talk, [0, 1, 2])
    end(rig, run)
    assert [(m.offset, m.text) for m in of(rig, TaskPrinted, run)] == [(n, f"item {n}!") for n in range(3)]


def test_pictures_travel_as_bundles(rig: PoolRig) -> None:
    def show() -> None:
        import matplotlib.pyplot as plt
        from IPython.display import HTML, Image, clear_output
        from IPython.display import display as show_it

        show_it(HTML("<b>bold</b>"), {"a": 1})
        handle = show_it("first", display_id="here")
        handle.update("second")
        clear_output(wait=True)
        plt.plot([1, 2])
        plt.show()
        plt.figure()  # left open: shown at the end, and closed
        show_it(Image(data=b"\x89PNG" + bytes(2_000_000), format="png"))
        display([1])  # type: ignore[name-defined]  # noqa: F821

    run = rig.give(show)
    result(rig, run)
    assert not [m.text for m in of(rig, TaskPrinted, run) if m.stream != "display"]
    shown = [json.loads(m.text) for m in of(rig, TaskPrinted, run)]
    assert shown[0]["data"]["text/html"] == "<b>bold</b>"
    assert shown[1]["data"] == {"text/plain": "{'a': 1}"}
    assert (shown[2]["id"], shown[3]["id"], shown[3]["update"]) == ("here", "here", True)
    assert shown[4] == {"clear": True, "wait": True}
    assert shown[5]["data"]["image/png"].startswith("iVBOR")
    assert list(shown[6]["data"]) == ["text/plain"]
    assert "left out: image/png" in shown[6]["data"]["text/plain"]
    assert shown[7]["data"] == {"text/plain": "[1]"}
    assert "image/png" in shown[8]["data"]


def test_a_flood_of_pictures_is_bounded_and_ends_with_the_last(rig: PoolRig) -> None:
    def flood() -> None:
        for number in range(300):
            display(f"{number} {'x' * 50_000}")  # type: ignore[name-defined]  # noqa: F821

    run = rig.give(flood)
    result(rig, run)
    shown = of(rig, TaskPrinted, run)
    assert sum(len(m.text) for m in shown) < 6_000_000
    assert "299 xxx" in shown[-1].text


def test_bars_become_progress_and_print_nothing(rig: PoolRig) -> None:
    def nested() -> str:
        import time

        from rich.progress import Progress, track
        from tqdm.auto import tqdm
        from tqdm.notebook import tqdm as notebook_tqdm

        for _ in tqdm(range(2), desc="epoch"):
            for _ in notebook_tqdm(range(4), desc="batch", leave=False):
                time.sleep(0.05)
        time.sleep(0.05)
        for _ in track(range(4), description="[red]walk"):
            time.sleep(0.05)
        with Progress() as progress:
            one, two = progress.add_task("one", total=10), progress.add_task("two", total=None)
            progress.update(two, advance=3)
            progress.advance(one, 5)
            time.sleep(0.1)
        with tqdm(total=10, disable=None) as bar:
            bar.update(9)
            bar.set_postfix(loss=0.5)
            time.sleep(0.1)
        tqdm.write("a line")
        return "ended"

    run = rig.give(nested)
    assert result(rig, run) == "ended"
    told = {(m.progress, m.note) for m in of(rig, TaskProgressed, run)}
    assert any(percent == 50.0 and note.startswith("epoch 1/2 · batch ") for percent, note in told), told
    assert (100.0, "epoch") in told
    assert (50.0, "walk") in told
    assert (50.0, "one 5/10 · two 3") in told
    assert (90.0, "loss=0.5") in told
    assert [(m.stream, m.text) for m in of(rig, TaskPrinted, run)] == [("stdout", "a line\n")]


def test_frames_of_failures_are_kept_of_the_first_ones_alike(rig: PoolRig) -> None:
    def fail(number: int) -> None:
        raise ValueError(number)

    failures = end(rig, rig.give_many(fail, list(range(200)))).failures
    with_frames = [failure.frames is not None for failure in failures]
    assert with_frames == [True] * 50 + [False] * 150
    with_values = [failure.frames is not None and len(failure.frames.buffers) > 1 for failure in failures]
    assert with_values == [True] * 3 + [False] * 197
    assert {(failure.worker, failure.attempt, bool(failure.host)) for failure in failures} == {("worker_0", 1, True)}
    assert failures[7].call == "f(7)"
