from __future__ import annotations

import time
from typing import Any

import pytest

from nblb.client import front_end
from nblb.client.connection import waiting
from nblb.notebook import interrupts
from tests.notebook.fakes import FakeJob, Line
from tests.notebook.kernels import evaluated, kernel, outputs_of, until_printed
from tests.waiting import wait_until

WAIT = "job = fakes.FakeJob(seconds=60)\nprint('waits')\njob.wait()"


def stop_wait(job: FakeJob) -> None:
    with pytest.raises(KeyboardInterrupt), waiting.interruptible(job, Line()):  # type: ignore[arg-type]
        raise KeyboardInterrupt


def test_the_stop_button_frees_the_kernel_and_a_second_press_cancels() -> None:
    hooks = "from nblb.notebook import display_hooks, interrupts\ndisplay_hooks.install(get_ipython())"
    with kernel(hooks, "interrupts.AGAIN_S, interrupts.DOUBLE_S = 60.0, 0.0") as (manager, client):
        wait = client.execute(WAIT)
        until_printed(client, "waits\n")
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=50)["content"]["ename"] == "KeyboardInterrupt"  # the job takes a minute
        said = outputs_of(client, wait)
        card, *_ = [content["data"] for content in said if content.get("transient")]
        assert card["text/plain"].startswith("stopped waiting for sweep: ▶ goes on")
        assert [content["traceback"] for content in said if "traceback" in content] == [
            ["KeyboardInterrupt: stopped waiting for sweep"]
        ]
        manager.interrupt_kernel()  # the kernel is idle now
        wait_until(lambda: evaluated(client, "[call for call, _ in job.calls]") == "['cancel']", 5, "the cancel")
        # Once the time for a second press is over, the button is what it was: for a running cell, and between cells.
        client.execute("interrupts.AGAIN_S = 0.0", reply=True, timeout=60)
        wait = client.execute(WAIT)
        until_printed(client, "waits\n")
        manager.interrupt_kernel()
        outputs_of(client, wait)
        manager.interrupt_kernel()
        loop = client.execute("import time\nprint('loops')\nwhile True: time.sleep(0.02)")
        until_printed(client, "loops\n")
        manager.interrupt_kernel()
        outputs_of(client, loop)
        assert evaluated(client, "6 * 7") == "42"


def test_the_default_is_a_parameter_and_a_second_stop_of_the_same_wait_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "_pictures", {})
    told: list[Any] = []
    front_end.register("interrupted", lambda thing, fate, stop: told.append(fate) or True)
    job = FakeJob()
    stop_wait(job)
    assert job.calls == []
    stop_wait(job)
    assert [call for call, _ in job.calls] == ["cancel"]
    monkeypatch.setattr(waiting, "_interrupted", (waiting._interrupted[0], time.monotonic() - 4, ""))  # type: ignore[index]
    stop_wait(job)
    monkeypatch.setattr(waiting, "on_interrupt", "kill")
    stop_wait(job)
    assert [call for call, _ in job.calls] == ["cancel", "kill"]
    assert told == ["detach", "cancel", "detach", "kill"]


def test_of_waits_inside_each_other_the_innermost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "_pictures", {})
    told: list[Any] = []
    front_end.register("interrupted", lambda thing, fate, stop: told.append(thing.name) or True)
    with pytest.raises(KeyboardInterrupt), waiting.interruptible(FakeJob("outer"), Line()):  # type: ignore[arg-type]
        stop_wait_inside(FakeJob("inner"))
    assert told == ["inner"]


def stop_wait_inside(job: FakeJob) -> None:
    with waiting.interruptible(job, Line()):  # type: ignore[arg-type]
        raise KeyboardInterrupt


def test_outside_a_kernel_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert not interrupts.interrupted(FakeJob(), "detach", KeyboardInterrupt())
    stop_wait(FakeJob("lone"))
    assert "continues" in caplog.text


def test_a_double_click_and_another_cell_do_not_cancel() -> None:
    hooks = "from nblb.notebook import display_hooks, interrupts\ndisplay_hooks.install(get_ipython())"
    with kernel(hooks, "interrupts.AGAIN_S, interrupts.DOUBLE_S = 60.0, 60.0") as (manager, client):
        wait = client.execute(WAIT)
        until_printed(client, "waits\n")
        manager.interrupt_kernel()
        outputs_of(client, wait)
        manager.interrupt_kernel()  # the second half of a double click
        assert evaluated(client, "[call for call, _ in job.calls]") == "[]"
        client.execute("interrupts.DOUBLE_S = 0.0", reply=True, timeout=60)
        manager.interrupt_kernel()  # another cell has run since
        loop = client.execute("print('loops')\ntry:\n    job.wait()\nexcept KeyboardInterrupt: print('stopped')")
        until_printed(client, "loops\n")
        manager.interrupt_kernel()
        outputs_of(client, loop)
        assert evaluated(client, "[call for call, _ in job.calls]") == "[]"


def test_a_stop_of_the_same_wait_in_another_cell_does_not_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "_pictures", {})
    cells = iter(["one", "two", "two"])
    front_end.register("waits", lambda: (None, next(cells)))
    job = FakeJob()
    stop_wait(job)
    stop_wait(job)
    assert job.calls == []
    stop_wait(job)
    assert [call for call, _ in job.calls] == ["cancel"]
