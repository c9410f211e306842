"""Prepares the journal's database: its settings, its tables, and the upgrade from older schemas.

A schema newer than SCHEMA is refused; for an older one UPGRADES has the steps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from nblb.broker.journal.rows import FILES, SEALED, SUMS, TABLES
from nblb.broker.journal.seal import sealed
from nblb.errors import JournalError
from nblb.protocol.journal_entries import SCHEMA

SPARE_PAGES = 4096  # a start runs VACUUM from this many free pages on


def _add_hubs(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE tasks ADD COLUMN hub TEXT")


def _add_sums(db: sqlite3.Connection) -> None:
    for table in SUMS:
        db.execute(table)


def _add_seals(db: sqlite3.Connection) -> None:
    db.execute(FILES)
    db.create_function("sealed", -1, sealed, deterministic=True)
    for table, columns in SEALED.items():
        db.execute(f"UPDATE {table} SET entry = sealed(entry{''.join(f', {name}' for name in columns)})")


# The step from each schema to the next: changes tables and rows, only with `execute`, inside an open transaction.
UPGRADES: dict[int, Callable[[sqlite3.Connection], None]] = {
    1: lambda _db: None,  # rows of schema 1 can be read unchanged
    2: _add_hubs,
    3: _add_sums,
    4: lambda _db: None,  # likewise rows of schema 4
    5: _add_seals,
}


def prepare(
    db: sqlite3.Connection, path: Path, durability: str, inspect: Callable[[sqlite3.Connection], None] | None = None
) -> None:
    """Set up this connection and upgrade its database for use as a journal; `inspect` sees it before any change."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")  # also spares the shared-memory file beside the WAL
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
    db.execute("PRAGMA wal_autocheckpoint = 0")  # `rest` and `commit` choose the moment
    db.execute("PRAGMA cache_size = -4000")
    if inspect is not None:
        inspect(db)
    schema = db.execute("PRAGMA user_version").fetchone()[0]
    if schema > SCHEMA:
        raise JournalError(
            f"The journal {path} was written by a newer nblb (schema {schema}, this one knows {SCHEMA}): "
            "upgrade nblb, or name another folder with LB_STATE_DIR."
        )
    if schema != SCHEMA:
        _upgrade(db, path, schema)
    free, pages = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    if free > SPARE_PAGES and free > pages // 2:
        db.execute("VACUUM")


def _upgrade(db: sqlite3.Connection, path: Path, schema: int) -> None:
    """Run all steps in one transaction: a process killed in it leaves the journal unchanged."""
    db.execute("BEGIN IMMEDIATE")
    if schema == 0:
        for table in TABLES:
            db.execute(table)
    for step in range(schema or SCHEMA, SCHEMA):
        if step not in UPGRADES:
            raise JournalError(
                f"The journal {path} has schema {schema}, and this nblb cannot upgrade from {step}: "
                "start the nblb that wrote it, or name another folder with LB_STATE_DIR."
            )
        try:
            UPGRADES[step](db)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise damaged(path, f"upgraded from schema {step}", error) from error
    if not db.in_transaction:
        raise AssertionError(f"a step to schema {SCHEMA} has ended the transaction, as executescript does")
    db.execute(f"PRAGMA user_version = {SCHEMA}")
    db.execute("COMMIT")


def damaged(path: Path, verb: str, error: Exception) -> JournalError:
    """Return the error for a journal that cannot be opened, read or written."""
    return JournalError(
        f"The journal {path} cannot be {verb}: {error}. If it is damaged, 'nblb doctor --journal' with the same "
        "parameters says what can still be read, and makes a new journal of it with --repair."
    )
