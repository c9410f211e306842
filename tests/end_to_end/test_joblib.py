"""Unchanged joblib and scikit-learn code on a real cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import nblb as lb
from tests.waiting import wait_until


def where(number: int) -> tuple[int, int]:
    return number, os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is too many")
    return number


def sleep_long(number: int) -> int:
    if number == 0:
        raise ValueError("zero at once")
    threading.Event().wait(60)
    return number


def test_runs_in_workers_and_in_order(cluster: lb.Cluster) -> None:
    with joblib.parallel_config("nblb"):
        done = joblib.Parallel()(joblib.delayed(where)(number) for number in range(40))
    assert [number for number, _ in done] == list(range(40))
    assert os.getpid() not in {pid for _, pid in done}
    # all results are here, so nothing is left to collect
    wait_until(lambda: not [job for job in lb.jobs() if job.name.startswith("joblib-")], 10, "no job of joblib's")


def test_a_failure_is_the_original_error(cluster: lb.Cluster) -> None:
    with joblib.parallel_config("nblb"), pytest.raises(ValueError, match="three is too many"):
        joblib.Parallel()(joblib.delayed(fail_at_three)(number) for number in range(10))


def test_a_failure_cancels_the_others_and_frees_the_workers(cluster: lb.Cluster) -> None:
    with joblib.parallel_config("nblb"), pytest.raises(ValueError, match="zero at once"):
        joblib.Parallel(batch_size=1)(joblib.delayed(sleep_long)(number) for number in range(8))
    wait_until(lambda: cluster.status().running == 0 and cluster.status().queued == 0)
    assert lb.task(where).submit(1).result(60)[0] == 1


def test_results_as_they_come(cluster: lb.Cluster) -> None:
    with joblib.parallel_config("nblb", priority=5):
        results = joblib.Parallel(return_as="generator")(joblib.delayed(where)(number) for number in range(9))
        assert [number for number, _ in results] == list(range(9))


def test_scikit_learn_searches_on_the_cluster(cluster: lb.Cluster) -> None:
    features, labels = load_iris(return_X_y=True)
    grid = {"C": [0.1, 1, 10], "gamma": [0.01, 0.1]}
    alone = GridSearchCV(SVC(), grid, cv=3).fit(features, labels)
    with joblib.parallel_config("nblb"):
        shared = GridSearchCV(SVC(), grid, cv=3, n_jobs=-1).fit(features, labels)
    assert shared.best_params_ == alone.best_params_
    np.testing.assert_allclose(shared.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_a_wrong_option_is_said(cluster: lb.Cluster) -> None:
    with pytest.raises(TypeError, match="'prio' is not an option of a task"):
        joblib.parallel_config("nblb", prio=3)


@pytest.mark.parametrize("order", ["import nblb, joblib", "import joblib, nblb"])
def test_is_offered_in_whichever_order_they_are_imported(order: str) -> None:
    code = f"{order}; joblib.parallel_config('nblb'); print(joblib.effective_n_jobs.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "joblib.parallel", done.stderr


def threads_of(_: int) -> set[int]:
    from threadpoolctl import threadpool_info

    np.ones((50, 50)) @ np.ones((50, 50))
    return {library["num_threads"] for library in threadpool_info()}


def speak(number: int) -> str:
    import warnings

    print(f"printed {number}")
    warnings.warn(f"warned {number}", stacklevel=1)
    return os.environ.get("NBLB_TEST_SET_UP", "")


def set_up(text: str) -> None:
    os.environ["NBLB_TEST_SET_UP"] = os.environ.get("NBLB_TEST_SET_UP", "") + text


def test_threads_of_the_calls(cluster: lb.Cluster) -> None:
    for threads in (2, 3):
        with joblib.parallel_config("nblb", inner_max_num_threads=threads):
            done = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_of)(number) for number in range(4))
        assert done == [{threads}] * 4
    with joblib.parallel_config("nblb"):
        assert joblib.Parallel()(joblib.delayed(threads_of)(0) for _ in range(2)) == [{1}] * 2


def test_an_initializer_and_what_calls_print(cluster: lb.Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    with joblib.parallel_config("nblb", initializer=set_up, initargs=("once",)):
        done = joblib.Parallel()(joblib.delayed(speak)(number) for number in range(8))
    assert done == ["once"] * 8
    printed, warned = capfd.readouterr()
    assert [printed.count(f"printed {number}\n") for number in range(8)] == [1] * 8
    assert "UserWarning: warned 3" in warned


def root(number: float) -> float:
    if number < 0:
        raise ValueError("math domain error")
    return number**0.5


def test_a_failure_names_the_call_and_not_joblibs_batch(cluster: lb.Cluster) -> None:
    with joblib.parallel_config("nblb"), pytest.raises(ValueError, match="math domain") as caught:
        joblib.Parallel()(joblib.delayed(root)(number) for number in (-4, -4))
    said = str(caught.value.__cause__)
    assert "BatchedCalls" not in said
    assert "called as root(-4)" in said or "called as 2 calls of root" in said
