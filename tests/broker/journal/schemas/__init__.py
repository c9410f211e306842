"""Samples of every past schema of the journal: the shapes of its entries, and a small journal written with it.

    python -m tests.broker.journal.schemas        writes both for records.SCHEMA, if they are not there yet

The journal of a schema is written once, by the code of that time, and never again: it is what users have on their
disks. Its `replayed.json` says what the present code makes of it; a later schema may change that file on purpose,
with `--replayed`. The shapes of the present schema may only grow by fields that have a default; the script writes
those down, and refuses all else: then records.SCHEMA has to be raised.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec

from nblb.broker.journal.journal import Journal
from nblb.broker.journal.rows import INLINE, TABLES
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import (
    SCHEMA,
    AnyEntry,
    AttemptFailed,
    AttemptKept,
    BlobKept,
    Collected,
    EndKept,
    JobKept,
    Published,
    StatisticsKept,
    TaskKept,
    UserKept,
)
from nblb.protocol.messages import Failure, OpenJob, SubmitTask, TaskState
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.simulation.replay_check import picture

HERE = Path(__file__).parent
Shapes = dict[str, Any]


# ── shapes ──


def shapes() -> Shapes:
    """Every class that is written to the journal, field by field, and the tables."""
    classes = [*get_args(AnyEntry), SubmitTask, OpenJob, Failure]
    found: Shapes = {each.__name__: _fields(each) for each in classes}
    return found | {TaskState.__name__: sorted(state.value for state in TaskState), "tables": list(TABLES)}


def _fields(kind: type[msgspec.Struct]) -> dict[str, str]:
    written: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        written |= {name: str(text) for name, text in vars(base).get("__annotations__", {}).items()}
    return {field.name: f"{written[field.name]}{_default(field)}" for field in msgspec.structs.fields(kind)}


def _default(field: msgspec.structs.FieldInfo) -> str:
    default = field.default
    if default is not msgspec.NODEFAULT:
        return f" = {type(default).__name__}()" if isinstance(default, Payload) else f" = {default!r}"
    return f" = {field.default_factory.__name__}()" if callable(field.default_factory) else ""


def differences(before: Shapes, after: Shapes) -> list[str]:
    """What may not change within one schema, in words."""
    found = []
    for name in before | after:
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{name}.{field} was '{old[field]}', is {_now(new, field)}" for field in old
                      if new.get(field) != old[field]]  # fmt: skip
            found += [f"{name}.{field} is new and has no default" for field in new
                      if field not in old and " = " not in new[field]]  # fmt: skip
        elif old != new:
            found.append(f"{name} was {old}, is {new}")
    return found


def _now(fields: dict[str, str], name: str) -> str:
    return f"'{fields[name]}'" if name in fields else "gone"


def known_shapes(schema: int) -> Shapes:
    shapes_: Shapes = json.loads((HERE / str(schema) / "shapes.json").read_text())
    return shapes_


# ── journals ──


def entries() -> list[AnyEntry]:
    """Something of everything that a core keeps, with every field in use."""
    code, large = Payload((b"code",)), Payload((bytes(INLINE), b"beside"), [1, 2])
    one = SubmitTask(
        task="one", name="f", function="hash", payload=code, job="job", index=3, priority=2.5, user="ann", retries=2,
        timeout_s=1.5, constants=("big",), python=(3, 11), origin="a.ipynb#4",
    )  # fmt: skip
    many = SubmitTask(
        task="many", name="f", function="hash", payload=Payload((b"abcdef",), [1] * 6), items=6, split=True, user="bob"
    )
    needs = SubmitTask(task="needs", name="g", payload=large, user="bob", at_most_once=True, depends=("many",))
    failure = Failure(
        offset=1, kind="ValueError", message="no", traceback="Traceback", where="cell In[7] line 4", payload=code,
        line="raise", call="f(3)", frames=code, host="lab1", worker="w1", attempt=1,
    )  # fmt: skip
    return [
        BlobKept("hash", code, "f"),
        BlobKept("big", large),
        Published("g", "hash"),
        JobKept(OpenJob(job="job", name="sweep", items=9, task_name="f", fingerprint="p", origin="o"), "ann", 1.0),
        TaskKept(one, 2.0),
        TaskKept(many, 3.0),
        TaskKept(needs, 4.0),
        AttemptKept("many", 0, 3, 1, "hub"),
        AttemptKept("many", 3, 1, 1, "hub", 4.5),
        AttemptKept("one", 0, 1, 1, "hub"),
        AttemptFailed("one", 0, 1, 1, crashed=True, reason="killed", at=4.25, cause="WorkerDied"),
        AttemptKept("one", 0, 1, 2, "hub"),
        StatisticsKept("f", 9, 1, 8, 4.0, 0.25, 1.0, 2.0, 0.0, 0.5),
        UserKept("bob", 7, 1, 12.5, 2.5, 4.0),
        EndKept("one", 0, 1, 2, TaskState.DONE, 5.0, large, None, 0.5, "w1", "lab1"),
        EndKept("many", 0, 3, 1, TaskState.DONE, 6.0, code, holes=(1,)),
        EndKept("many", 1, 1, 1, TaskState.FAILED, 6.0, failure=failure),
        AttemptFailed("many", 1, 1, 1, crashed=False, again=True),
        EndKept("many", 4, 1, 0, TaskState.CANCELLED, 7.0),
        Collected("one", 1e12),
    ]


def write(folder: Path) -> None:
    """A journal of the present schema."""
    journal = Journal(folder, name="fixture")
    for entry in entries():
        journal.append(entry)
    journal.commit()
    journal.close()
    (folder / "lock").unlink()


def replayed(folder: Path) -> Any:
    """What a core of today finds in this journal, and what it makes of it."""
    journal = Journal(folder)
    try:
        found = list(journal.replay())
        scheduler = Scheduler(Policy(core=journal.core, epoch=journal.epoch))
        scheduler.restore(found, 0.0)
        state = scheduler.state
        items = {name: [list(map(str, item)) for item in picture(record)] for name, record in state.records.items()}
        return {
            "entries": [json.loads(msgspec.json.encode(entry, enc_hook=_told)) for entry in found],
            "items": items,
            "jobs": sorted(state.jobs),
            "blobs": sorted(state.blobs),
            "published": sorted(state.published),
            "statistics": {name: [s.total, s.failed, s.ran, s.calc_sum] for name, s in state.tallies.by_name.items()},
            "users": {user.name: [user.done, user.failed, user.used_s] for user in state.share.users.values()},
            "may run": sorted(" ".join(map(str, fence)) for fence in state.orphans),
        }
    finally:
        journal.close()


def _told(value: Any) -> Any:
    """A payload in a few words."""
    assert isinstance(value, Payload)
    buffers = [bytes(buffer) for buffer in value.buffers]
    return [list(value.sizes), *(f"{len(b)} bytes {hashlib.blake2b(b, digest_size=8).hexdigest()}" for b in buffers)]


# ── the script ──


def main(arguments: Iterable[str]) -> None:
    folder = HERE / str(SCHEMA)
    if not folder.exists():
        folder.mkdir()
        write(folder / "state")
        _say(folder / "shapes.json", shapes())
        _say(folder / "replayed.json", _of_copy(folder / "state"))
        return
    wrong = differences(known_shapes(SCHEMA), shapes())
    if wrong:
        raise SystemExit("raise records.SCHEMA and add the step to broker/journal/schema.py:\n  " + "\n  ".join(wrong))
    _say(folder / "shapes.json", shapes())
    if "--replayed" in arguments:
        for each in sorted(HERE.glob("[0-9]*")):
            _say(each / "replayed.json", _of_copy(each / "state"))


def _of_copy(state: Path) -> Any:
    copy = state.with_name("copy")
    shutil.copytree(state, copy)
    try:
        return replayed(copy)
    finally:
        shutil.rmtree(copy)


def _say(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
