"""`%%lb` in a real IPython on a real cluster."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from IPython.core.error import UsageError

from nblb.client.cluster import Cluster
from nblb.client.futures.task_future import TaskFuture
from nblb.errors import TaskFailed, TaskTimeout
from tests.notebook.kernels import evaluated, kernel, outputs_of, until_printed
from tests.waiting import wait_until


def lb(shell: Any, cell: str, line: str = "") -> Any:
    return shell.run_cell_magic("lb", line, cell)


def test_a_cell_runs_as_a_task_and_its_variables_value_and_output_come_back(
    live_shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    live_shell.run_cell(
        "import math, os, threading\nx = 20\nbase = [1, 2]\nlock = threading.Lock()\n"
        "def double(n):\n    return 2 * n * scale\nscale = 10\nhere = os.getpid()"
    )
    value = lb(
        live_shell,
        "import os\nprint('from', 'afar')\nif x > 100:\n    lock.acquire()\nlock = 5\nbase = base + [double(x)]\n"
        "root = math.sqrt(16)\nthere = os.getpid()\nx + 1",
        "--name first --priority 3  # as a task",
    )
    assert value == 21
    assert live_shell.user_ns["base"] == [1, 2, 400]
    assert (live_shell.user_ns["root"], live_shell.user_ns["lock"]) == (4.0, 5)
    assert live_shell.user_ns["there"] != live_shell.user_ns["here"]
    assert capsys.readouterr().out == "from afar\n"
    assert live_shell.user_ns["_lb"].name == "first"


def test_errors_are_those_of_the_cell_and_mistakes_one_sentence(
    live_shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    live_shell.run_cell("import threading\nlock = threading.Lock()\nslow = 60")
    done = live_shell.run_cell("%%lb\na = 1\na / 0\n", store_history=True)
    assert isinstance(done.error_in_exec, TaskFailed)
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)  # newer IPythons colour it
    assert "line 3" in said
    assert "a / 0" in said
    assert "ZeroDivisionError" in said
    assert "cell_magic.py" not in said
    assert "called as" not in said, "the call is the cell itself, its names and a token"
    assert isinstance(done.error_in_exec.__cause__, ZeroDivisionError)
    with pytest.raises(UsageError, match="lock, which the cell reads, cannot travel"):
        lb(live_shell, "print(lock)")
    with pytest.raises(UsageError, match=r"line 3 of the cell: .*: y = = 2"):
        lb(live_shell, "x = 1\ny = = 2")
    with pytest.raises(UsageError, match="no magics"):
        lb(live_shell, "!ls")
    with pytest.raises(TaskTimeout):
        lb(live_shell, "import time\ntime.sleep(slow)", "--timeout 0.3")


def test_in_the_background_the_future_is_the_value_and_variables_come_by_themselves(live_shell: Any) -> None:
    future = lb(live_shell, "print('hi')\nz = 7\nz * 6", "--bg")
    assert isinstance(future, TaskFuture)
    wait_until(lambda: live_shell.user_ns.get("z") == 7, 10, "z")
    assert future.result() == 42
    wait_until(lambda: "nblb-cell" not in {thread.name for thread in threading.enumerate()}, 10, "its thread to end")


def test_what_a_cell_displays_is_displayed_here(live_shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Any] = []
    monkeypatch.setattr(
        "IPython.display.publish_display_data", lambda data, *_, update=False, **__: published.append((data, update))
    )
    lb(live_shell, "from IPython.display import display, HTML\ndisplay(HTML('<b>bold</b>'))\nprint('and text')")
    assert [(data["text/html"], update) for data, update in published] == [("<b>bold</b>", False)]


def test_the_stop_button_frees_the_kernel_and_leaves_the_cell_running(cluster: Cluster, parameters_file: str) -> None:
    connect = f"%load_ext nblb\nimport nblb\nnblb.connect({parameters_file!r})"
    with kernel(connect) as (manager, client):
        cell = client.execute("%%lb --name nap\nimport time\nprint('naps', flush=True)\ntime.sleep(60)")
        until_printed(client, "naps\n")
        manager.interrupt_kernel()
        said = outputs_of(client, cell)
        shown = [one["traceback"] for one in said if "traceback" in one]
        assert shown == [["KeyboardInterrupt: stopped waiting for nap"]]
        assert evaluated(client, "_lb.done()") == "False"
