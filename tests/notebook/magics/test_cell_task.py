from __future__ import annotations

import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from nblb.notebook.magics import cell_task


def test_the_value_is_that_of_the_last_expression_and_variables_land_once() -> None:
    landed: list[Any] = []
    cell_task.landings["t"] = lambda variables, left: landed.append((variables, left))
    result = cell_task.run_cell("\na = x + 1\nb = a * 2\na + b", "<cell>", ["a", "b", "never"], {"x": 1}, "t")
    kept = cloudpickle.dumps(result)
    assert pickle.loads(kept) == 6
    assert landed == [({"a": 2, "b": 4}, {})]
    assert pickle.loads(kept) == 6  # elsewhere, or once more: the value alone
    assert len(landed) == 1


def test_a_cell_without_a_value() -> None:
    assert pickle.loads(cloudpickle.dumps(cell_task.run_cell("pass", "<cell>", [], {}, "t"))) is None


def test_what_cannot_travel_stays_behind_and_is_named() -> None:
    source = "import threading\nlock = threading.Lock()\nx = 2\nlock"
    landed: list[Any] = []
    cell_task.landings["t"] = lambda variables, left: landed.append((variables, left))
    value = pickle.loads(cloudpickle.dumps(cell_task.run_cell(source, "<cell>", ["lock", "threading", "x"], {}, "t")))
    assert "lock" in repr(value)
    [(variables, left)] = landed
    assert variables == {"threading": threading, "x": 2}
    assert left["lock"].startswith("lock: cannot pickle")


def test_functions_of_a_cell_see_its_variables() -> None:
    source = "k = 3\ndef f(n):\n    return k * n\n[f(n) for n in range(3)]"
    assert cell_task.run_cell(source, "<cell>", [], {}, "t").__reduce__()[1][0] == [0, 3, 6]


def test_an_error_has_the_line_of_the_cell() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        cell_task.run_cell("\na = 1\na / 0", "<ipython-input-7-x>", [], {}, "t")
    last = caught.traceback[-1]
    assert (str(last.path), last.lineno + 1) == ("<ipython-input-7-x>", 3)
