"""Hubs that cannot run tasks from this process are named, and NumPy 2 data in NumPy 1 gives a clear error."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nblb as lb
from nblb import payload
from nblb.client import compatible, task_decorator
from nblb.client.cluster import Cluster
from nblb.errors import NoCompatibleHub
from nblb.protocol.framing import Payload
from nblb.protocol.messages import SubmitTask, TaskState
from tests.client.fake_core import FakeCore

HERE = list(sys.version_info[:2])


def test_hubs_that_are_alike_need_no_word() -> None:
    assert (
        compatible.notes([{"name": "a", "python": HERE, "numpy": np.__version__}, {"name": "b", "python": HERE}]) == []
    )


def test_another_python_and_another_numpy_are_named() -> None:
    hubs = [{"name": f"h{n}", "python": [3, 1], "numpy": "1.26.4"} for n in range(5)]
    hubs.append({"name": "lab", "python": HERE, "numpy": "99.1"})
    python, numpy = compatible.notes(hubs)
    assert python.startswith("hubs h0, h1, h2 and 2 more have Python 3.1 and this process")
    assert numpy.startswith(f"hub lab has NumPy 99.1 and this process {np.__version__}")


def as_numpy_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """What NumPy 2 has renamed cannot be found."""
    for name in [name for name in sys.modules if name.startswith("numpy._core")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("nblb.payload.pickling.numpy_version", lambda: "1.26.4")


@pytest.mark.skipif(np.__version__.startswith("1."), reason="needs NumPy 2 to pickle with")
@pytest.mark.parametrize("pack", [payload.dump_constant, lambda value: (0, payload.pack_call((value,), {}).payload)])
def test_data_of_numpy_2_in_numpy_1(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    _, packed = pack(np.arange(10))
    as_numpy_1(monkeypatch)
    with pytest.raises(NoCompatibleHub, match=r"pickled with NumPy 2, and .* has NumPy 1\.26\.4") as caught:
        payload.load_constant(packed)
    failure = payload.pack_exception(caught.value)
    error = payload.to_exception(failure, "t", TaskState.FAILED)
    assert isinstance(error, NoCompatibleHub)
    assert "\n" not in str(error)


def test_another_module_that_is_missing_stays_what_it_is() -> None:
    broken = pickle.dumps(compatible.notes).replace(b"nblb.client.compatible", b"nblb.client.compatibl_")
    with pytest.raises(ModuleNotFoundError, match="compatibl_"):
        payload.load_constant(Payload((broken,)))


# ── what tasks need ──


OURS = int(np.__version__.partition(".")[0])


@task_decorator.task
def total(values: Any) -> int:
    return int(sum(values))


def with_a_table() -> Callable[..., int]:
    table = np.arange(4)
    return lambda x: int(table[x])


def test_tasks_with_arrays_tell_the_numpy_that_they_need(cluster: Cluster, core: FakeCore) -> None:
    assert total.submit(np.arange(3)).result(10) == 3
    assert total.submit([1, 2]).result(10) == 3
    assert total.submit(lb.put(np.arange(5))).result(10) == 10
    assert task_decorator.task(with_a_table()).submit(3).result(10) == 3
    assert total.map([[1], [2]]).results(10) == [1, 2]
    assert total.map([np.arange(2), np.arange(3)]).results(10) == [1, 3]
    needs = [spec.numpy for spec in core.said(SubmitTask)]
    assert needs == [OURS, 0, OURS, OURS, 0, OURS]
