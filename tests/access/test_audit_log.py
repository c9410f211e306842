"""The audit log: one line an event, private, bounded, and never in the way."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from nblb.access.audit_log import LONGEST, AuditLog


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.note("join", name="anna", role="user")
    log.note("submit", user="x\nfake line\x1b[0m", items=3)
    log.close()
    log.note("join", name="bob")
    first, second, third = lines(log.path)
    assert (first["event"], first["name"]) == ("join", "anna")
    assert second["items"] == 3
    assert third["name"] == "bob"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_bounded(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, most_bytes=10_000)
    for number in range(1000):
        log.note("submit", user="u" * 1000, number=number)
    assert log.path.stat().st_size <= 10_000
    assert (tmp_path / "audit.log.1").stat().st_size <= 10_000
    assert len(list(tmp_path.iterdir())) == 2
    assert lines(log.path)[-1]["number"] == 999
    assert len(str(lines(log.path)[-1]["user"])) < LONGEST + 100


def test_equal_refusals_are_counted(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for at in range(100):
        log.refused(at / 100, "anna", "SubmitTask", reason="no")
    log.refused(50.0, "anna", "SubmitTask", reason="no")
    assert [line.get("more") for line in lines(log.path)] == [None, 99]


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "missing")
    log.note("join")
    assert log.lost == 1
