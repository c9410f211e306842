"""A hub that root runs has each user's tasks run as the Unix account of that name; and whose tasks a hub runs."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from tests import unix_accounts
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

pytestmark = pytest.mark.timeout(180)
needs_accounts = pytest.mark.skipif(bool(unix_accounts.missing()), reason=unix_accounts.missing() or "-")


@pytest.fixture(scope="module")
def names() -> Iterator[list[str]]:
    with unix_accounts.made(2) as names:
        yield names


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"WKHUB_WORKERS": [{"nWorkers": 2, "run_as": "submitter"}]}


@pytest.fixture
def cluster(parameters: Parameters) -> Iterator[Cluster]:
    with launch.start(parameters, monitor=False) as cluster:
        yield cluster


@lb.task
def writes(folder: str, text: str) -> tuple[int, str]:
    with open(f"{folder}/made", "w") as file:
        file.write(text)
    print(f"written for {os.getuid()}")
    return os.getuid(), os.environ["HOME"]


@lb.task
def reads(path: str) -> str:
    with open(path) as file:
        return file.read()


@needs_accounts
def test_two_people_share_a_hub_and_not_their_files(cluster: Cluster, names: list[str]) -> None:
    for name in names:
        home = pwd.getpwnam(name).pw_dir
        future = writes.options(user=name).submit(home, f"of {name}")
        assert future.result(60) == (pwd.getpwnam(name).pw_uid, home)
        assert future.stdout == f"written for {pwd.getpwnam(name).pw_uid}\n"
        assert Path(home, "made").owner() == name
    anna, bob = names
    path = f"{pwd.getpwnam(anna).pw_dir}/made"
    assert reads.options(user=anna).submit(path).result(60) == f"of {anna}"
    failed = reads.options(user=bob).submit(path)
    assert isinstance(failed.exception(60).__cause__, PermissionError)
    jobs = [lb.task(len).options(user=name).map([name] * 200) for name in names]
    assert [sum(job.results()) for job in jobs] == [200 * len(name) for name in names]


@needs_accounts
def test_large_arrays_pass_both_ways(cluster: Cluster, names: list[str]) -> None:
    data = os.urandom(4 << 20)
    doubled = lb.task(lambda value: value + value).options(user=names[0])
    assert doubled.submit(data).result(60) == data + data
    shared = lb.put(data)
    length = lb.task(len)
    assert [length.options(user=name).submit(shared).result(60) for name in names] == [len(data)] * 2


@needs_accounts
def test_names_without_an_account_and_roots_own_are_refused_in_a_sentence(cluster: Cluster) -> None:
    for user, sentence in (("nobody-here", "there is no account 'nobody-here'"), ("root", "runs no tasks as root")):
        error = lb.task(abs).options(user=user).submit(-1).exception(60)
        assert isinstance(error, lb.NotAllowed)
        assert sentence in str(error)


def test_a_hub_runs_tasks_only_of_whom_its_owner_admits(settings: dict[str, Any], tmp_path: Path) -> None:
    from nblb.parameters import load

    parameters = load(settings | {"WKHUB_WORKERS": [{"nWorkers": 1}]})
    with launch.start(parameters, workers=0, monitor=False) as cluster:
        cluster.add_hub(workers=1, only=["anna"])
        task = lb.task(abs)
        assert task.options(user="anna").submit(-1).result(60) == 1
        other = task.options(user="bob").submit(-2)
        wait_until(lambda: "no hub here runs tasks of bob" in other.why(), 20, "why() says who is admitted")
        assert cluster.hubs()[0].groups[0]["only"] == ["anna"]
        cluster.add_hub(workers=1)
        assert other.result(60) == 2
        with pytest.raises(ValueError, match="names no user"):
            cluster.add_hub(workers=1, only=[])
