"""The journal's schema: older journals are upgraded completely or not at all, newer ones are refused."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nblb.broker.journal import schema
from nblb.broker.journal.journal import Journal
from nblb.broker.journal.seal import contents, sealed
from nblb.errors import JournalError
from nblb.protocol.journal_entries import SCHEMA
from tests.broker.journal import schemas
from tests.broker.journals import reopened

SCHEMAS = sorted(int(path.name) for path in schemas.HERE.glob("[0-9]*"))
AGAIN = "run `python -m tests.broker.journal.schemas`"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A journal of the present schema with something of everything in it."""
    return Path(shutil.copytree(schemas.HERE / str(SCHEMA) / "state", tmp_path / "state"))


def version(folder: Path) -> int:
    db = sqlite3.connect(folder / "journal.sqlite")
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


# ── the rule ──


def test_what_is_written_changes_only_with_the_schema() -> None:
    known = schemas.known_shapes(SCHEMA)
    wrong = schemas.differences(known, schemas.shapes())
    assert not wrong, f"raise records.SCHEMA, add a step to UPGRADES, and {AGAIN}"
    assert known == schemas.shapes(), f"fields with a default are new: {AGAIN}"
    assert list(range(1, SCHEMA + 1)) == SCHEMAS, f"a sample of each schema: {AGAIN}"
    assert set(schema.UPGRADES) == set(range(1, SCHEMA))


def test_the_rule_sees_what_it_has_to() -> None:
    before = schemas.shapes()
    field = {"hash": "str", "payload": "Payload", "name": "str = ''"}
    assert before["BlobKept"] == field
    for change, said in [
        ({"name": "str = 'f'"}, "BlobKept.name was 'str = ''', is 'str = 'f''"),
        ({"hash": "bytes"}, "BlobKept.hash was 'str', is 'bytes'"),
        ({"size": "int"}, "BlobKept.size is new and has no default"),
        ({"size": "int = 0"}, ""),
    ]:
        found = schemas.differences(before, before | {"BlobKept": field | change})
        assert found == ([said] if said else [])
    assert schemas.differences(before, before | {"BlobKept": {"hash": "str", "payload": "Payload"}}) == [
        "BlobKept.name was 'str = ''', is gone"
    ]
    for name in ("TaskState", "tables"):
        assert len(schemas.differences(before, before | {name: []})) == 1
    assert schemas.differences(before, before | {"Another": {}}) == ["Another was None, is {}"]


# ── journals of all schemas ──


@pytest.mark.parametrize("schema", SCHEMAS)
def test_journals_of_all_schemas_are_read(tmp_path: Path, schema: int) -> None:
    home = schemas.HERE / str(schema)
    folder = Path(shutil.copytree(home / "state", tmp_path / "state"))
    assert version(folder) == schema
    for _ in range(2):  # as they were, and once upgraded
        assert schemas.replayed(folder) == json.loads((home / "replayed.json").read_text())
        assert version(folder) == SCHEMA


def test_the_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    schemas.write(tmp_path / "state")
    known = json.loads((schemas.HERE / str(SCHEMA) / "replayed.json").read_text())
    assert schemas.replayed(tmp_path / "state") == known


# ── an upgrade ──


def give_collections_a_reason(db: sqlite3.Connection) -> None:
    """A step as one might be needed: a new column, and a new required field in the rows of another table."""
    db.execute("ALTER TABLE collected ADD COLUMN why TEXT NOT NULL DEFAULT 'told'")
    for name, row in db.execute("SELECT job, entry FROM jobs").fetchall():
        entry = msgspec.msgpack.decode(contents(row)) | {"share": 1}
        db.execute("UPDATE jobs SET entry = ? WHERE job = ?", (sealed(msgspec.msgpack.encode(entry), name), name))


def tomorrow(monkeypatch: pytest.MonkeyPatch, step: Any = give_collections_a_reason) -> None:
    """From here on this nblb is of the next schema."""
    monkeypatch.setattr(schema, "SCHEMA", SCHEMA + 1)
    monkeypatch.setattr(schema, "UPGRADES", schema.UPGRADES | {SCHEMA: step})


def test_an_upgrade_changes_tables_and_rows(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = reopened(sample)
    with monkeypatch.context() as patched:
        tomorrow(patched)
        for _ in range(2):  # the second start has nothing to do
            journal = Journal(sample)
            assert journal._db.execute("SELECT why FROM collected").fetchall() == [("told",)]
            (row,) = journal._db.execute("SELECT entry FROM jobs").fetchone()
            assert msgspec.msgpack.decode(contents(row))["share"] == 1
            assert list(journal.replay()) == before
            journal.close()
    assert version(sample) == SCHEMA + 1
    with pytest.raises(JournalError, match=rf"newer nblb \(schema {SCHEMA + 1}, this one knows {SCHEMA}\)"):
        Journal(sample)  # today's nblb again: refused, and nothing is touched
    assert version(sample) == SCHEMA + 1


KILLED = f"""
import os, signal, sys
from pathlib import Path
from nblb.broker.journal import journal, schema
from tests.broker.journal.test_schema import give_collections_a_reason

def step(db):
    give_collections_a_reason(db)
    db.execute("PRAGMA cache_spill = 1")
    db.executemany("INSERT INTO failed VALUES (?, ?)", ((n, bytes(4000)) for n in range(10**6, 10**6 + 20_000)))
    os.kill(os.getpid(), signal.SIGKILL)

schema.SCHEMA, schema.UPGRADES = {SCHEMA + 1}, schema.UPGRADES | {{{SCHEMA}: step}}
journal.Journal(Path(sys.argv[1]))
"""


def test_who_is_killed_in_an_upgrade_leaves_the_journal_as_it_was(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = reopened(sample)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(sample)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (sample / "journal.sqlite-wal").stat().st_size > 1_000_000  # it had written much already
    assert reopened(sample) == before  # by today's nblb
    assert version(sample) == SCHEMA
    tomorrow(monkeypatch)
    assert reopened(sample) == before  # by tomorrow's, which upgrades it after all
    assert version(sample) == SCHEMA + 1


def test_a_step_that_fails_changes_nothing(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(db: sqlite3.Connection) -> None:
        give_collections_a_reason(db)
        raise ValueError("a row that nobody expected")

    before = reopened(sample)
    with monkeypatch.context() as patched:
        tomorrow(patched, fails)
        with pytest.raises(JournalError, match=f"upgraded from schema {SCHEMA}: a row that nobody expected"):
            Journal(sample)
    assert reopened(sample) == before


def test_a_step_that_would_commit_by_itself_is_a_bug_that_is_seen(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tomorrow(monkeypatch, lambda db: db.executescript("SELECT 1"))
    with pytest.raises(AssertionError, match="has ended the transaction"):
        Journal(sample)


def test_a_journal_that_nobody_can_upgrade_is_said_so(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "SCHEMA", SCHEMA + 1)
    with pytest.raises(JournalError, match=f"has schema {SCHEMA}, and this nblb cannot upgrade from {SCHEMA}"):
        Journal(sample)
