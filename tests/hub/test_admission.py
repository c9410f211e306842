"""Whose tasks a hub runs, and the accounts of their workers, in real processes of two real accounts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb import payload
from nblb.errors import ParametersError
from nblb.hub import admission
from nblb.hub.pool.fork_server import PR_SET_DUMPABLE
from nblb.parameters import load
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, HoldBlob, RunTask, TaskFinished, TaskStopped, WorkerDied
from nblb.shared_files.transfer import BLOBS, INCOMING, FilePart, Folder
from tests import unix_accounts
from tests.hub.pool_rig import PoolRig
from tests.hub.slots_rig import SlotsRig

needs_accounts = pytest.mark.skipif(bool(unix_accounts.missing()), reason=unix_accounts.missing() or "-")
SUBMITTER = [{"nWorkers": 1, "run_as": "submitter"}]


@pytest.fixture(scope="module")
def names() -> Iterator[list[str]]:
    with unix_accounts.made(2) as names:
        yield names


@pytest.fixture
def rig() -> Iterator[PoolRig]:
    rig = PoolRig(2, run_as="submitter", env={"GIVEN": "yes"})
    yield rig
    rig.pool.close()


def value(rig: PoolRig, run: RunTask) -> Any:
    """What the call has returned."""
    end = rig.end_of(run)
    assert end.payload is not None, end.failures
    return payload.unpack_results(end.payload)[0]


# ── who ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hub_refuses_the_tasks_of_others_in_a_sentence() -> None:
    hub = SlotsRig(groups=(Group(workers=1, only=("anna", "bob")),))
    hub.run("t1", user="carol")
    (end,) = [message for message in hub.said if isinstance(message, TaskFinished)]
    assert end.failures[0].kind == "NotAllowed"
    assert end.failures[0].message == "this hub runs only tasks of anna, bob, and not those of carol"
    hub.run("t2", user="bob")
    assert len(hub.done) == 1, "a task of one whom the owner admits is given to a worker"


def test_an_answer_about_an_account_is_used_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, now = list[str](), [0.0]
    monkeypatch.setattr(admission.accounts, "refusal", lambda user, _named: asked.append(user) or "no account")
    decided = admission.HubAdmission(lambda: now[0])
    group = Group(workers=1, run_as="submitter")
    assert [decided.refusal(group, "anna") for _ in range(3)] == ["no account"] * 3
    assert asked == ["anna"]
    now[0] = admission.KNOWN_S
    decided.refusal(group, "anna")
    assert asked == ["anna", "anna"]
    assert decided.refusal(Group(workers=1), "anna") == ""


def test_a_hub_that_cannot_change_accounts_says_so_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ParametersError, match="only a hub that root runs"):
        admission.check(load({"WKHUB_WORKERS": SUBMITTER}))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    admission.check(load({"WKHUB_WORKERS": SUBMITTER}))
    with pytest.raises(ParametersError, match="any user's name"):
        admission.check(load({"WKHUB_WORKERS": SUBMITTER, "LB_SECURITY": "none"}))
    with pytest.raises(ParametersError, match="a hub of its own"):
        admission.check(load({"WKHUB_WORKERS": [*SUBMITTER, {"nWorkers": 1}]}))


# ── as whom ─────────────────────────────────────────────────────────────────────────────────────────────────


def about_me(path: str) -> dict[str, Any]:
    libc = ctypes.CDLL(None)
    inherited = ""
    with contextlib.suppress(PermissionError), open("/proc/self/environ") as file:
        inherited = file.read()
    with open(path, "w") as file:
        file.write("mine")
    with open("/dev/stdout", "w") as out:
        out.write("printed\n")
    return {
        "uids": os.getresuid(), "groups": os.getgroups(), "cwd": str(Path.cwd()), "pid": os.getpid(),
        "environment": dict(os.environ), "dumpable": libc.prctl(3, 0, 0, 0, 0),
        "inherited": inherited,
    }  # fmt: skip


@needs_accounts
def test_each_users_tasks_run_as_its_account(rig: PoolRig, names: list[str]) -> None:
    assert PR_SET_DUMPABLE == 4
    for worker, name in zip(rig.workers, names, strict=True):
        found = pwd.getpwnam(name)
        path = Path(found.pw_dir) / "made"
        run = rig.give(about_me, str(path), worker=worker, user=name)
        about = value(rig, run)
        assert about["uids"] == (found.pw_uid,) * 3
        assert about["groups"] == os.getgrouplist(name, found.pw_gid)
        assert about["cwd"] == about["environment"]["HOME"] == found.pw_dir
        assert about["environment"]["USER"] == about["environment"]["LOGNAME"] == name
        assert about["environment"]["GIVEN"] == "yes"
        assert about["dumpable"] == 0
        made = path.stat()
        assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (found.pw_uid, found.pw_gid, 0o600)


@needs_accounts
def test_no_variable_of_root_reaches_a_task(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT_TOKEN", "a-secret-of-root")
    rig = PoolRig(1, run_as="submitter")
    try:
        about = value(rig, rig.give(about_me, f"{pwd.getpwnam(names[0]).pw_dir}/made", user=names[0]))
        assert "a-secret-of-root" not in about["inherited"] + repr(about["environment"])
        assert "ROOT_TOKEN" not in about["inherited"] + repr(about["environment"])
    finally:
        rig.pool.close()


def looks_at(pid: int, paths: list[str]) -> list[str]:
    """What this account can read of another's process and files."""
    found = []
    for path in (f"/proc/{pid}/mem", f"/proc/{pid}/environ", f"/proc/{pid}/fd/0", f"/proc/{os.getppid()}/mem", *paths):
        with contextlib.suppress(OSError), open(path, "rb"):
            found.append(path)
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        found.append("kill")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None) == 0:  # PTRACE_ATTACH
        found.append("ptrace")
    return found


@needs_accounts
def test_no_account_reads_the_memory_or_files_of_another(rig: PoolRig, names: list[str]) -> None:
    anna, bob = names
    path = f"{pwd.getpwnam(anna).pw_dir}/secret"
    first = value(rig, rig.give(about_me, path, worker=rig.workers[0], user=anna))
    found = value(rig, rig.give(looks_at, first["pid"], [path], worker=rig.workers[1], user=bob))
    assert found == []


@needs_accounts
def test_large_arguments_and_results_pass_without_a_folder(rig: PoolRig, names: list[str], tmp_path: Path) -> None:
    """The core's folder is closed to the accounts: the hub reads the files that come, and writes those that go."""
    folder = a_folder(tmp_path)
    rig.pool.hand_to(folder)
    (part,) = folder.write([b"x" * (3 << 20)])
    assert isinstance(part, FilePart)
    blob = HoldBlob(hash="big", payload=Payload.of([b"", part]), first=0, items=1, total=0)
    rig.pool.store_blob(blob)
    data = os.urandom(3 << 20)
    run = rig.give(lambda value: value * 2, data, worker=rig.workers[0], user=names[0], constants=("big",))
    end = rig.wait(TaskFinished, lambda m: m.task == run.task)
    assert end.payload is not None
    assert any(isinstance(each, FilePart) for each in end.payload.parts or ()), "the result is in a file of the hub"
    assert value(rig, run) == data * 2
    assert all(path.stat().st_uid == 0 for path in (tmp_path / INCOMING).iterdir())


def a_folder(path: Path) -> Folder:
    for name in (INCOMING, BLOBS):
        (path / name).mkdir(mode=0o700)
    path.chmod(0o700)
    return Folder(str(path))


@needs_accounts
def test_a_worker_cannot_name_a_file_of_the_hub(rig: PoolRig, names: list[str], tmp_path: Path) -> None:
    """A message that names a file could fetch another user's result: the hub ends such a worker."""
    folder = a_folder(tmp_path)
    rig.pool.hand_to(folder)
    (part,) = folder.write([b"of bob" * (1 << 18)])
    assert isinstance(part, FilePart)

    def steals(name: str, size: int) -> None:
        import gc

        from nblb.worker.channel import Channel

        channel = next(each for each in gc.get_objects() if type(each) is Channel)
        channel.refer = lambda _part: True
        from nblb.protocol.framing import Payload as Stolen
        from nblb.protocol.messages import TaskEmitted
        from nblb.shared_files.transfer import FilePart as Part

        stolen = Stolen.of([b"", Part("/nowhere", name, 0, size)])
        channel.send(1, TaskEmitted(task="t", attempt=1, payload=stolen))

    rig.give(steals, part.name, part.nbytes, worker=rig.workers[0], user=names[0])
    died = rig.wait(WorkerDied)
    assert "have not agreed to share files" in died.reason


@needs_accounts
def test_a_worker_that_got_no_user_is_retired_without_a_process(rig: PoolRig) -> None:
    rig.pool.retire(rig.workers[1], "it is not needed")
    assert rig.wait(WorkerDied).reason == "it is not needed"
    assert rig.pool.pids() == {}


@needs_accounts
def test_an_account_that_has_gone_meanwhile_gives_the_slice_back(rig: PoolRig) -> None:
    run = rig.give(abs, -1, user="gone-meanwhile")
    back = rig.wait(TaskStopped, lambda m: m.task == run.task)
    assert back.why == "recall"
    assert "it could not start" in rig.wait(WorkerDied).reason
