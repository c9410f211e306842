"""`nblb doctor`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nblb.broker.journal.journal import Journal
from nblb.cli import main
from tests.broker.journal.test_damage import damage_entry
from tests.broker.journals import ended, kept, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "state")
    list(journal.replay())
    write(journal, kept("a"), kept("b"), ended("a", b"r" * 200))
    journal.close()
    (tmp_path / "parameters.json").write_text(json.dumps({"LB_STATE_DIR": str(tmp_path / "state")}))
    return tmp_path


def doctor(folder: Path, *arguments: str) -> int:
    return main(["doctor", "-p", str(folder / "parameters.json"), *arguments])


def test_a_sound_journal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(folder, "--journal") == 0
    said = capsys.readouterr().out
    assert "2 submissions, 1 ends, 0 payload files" in said
    assert "nothing is damaged" in said


def test_a_damaged_one_is_exported_and_repaired(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage_entry(folder / "state", "ends", "key > 0")
    assert doctor(folder, "--journal") == 1
    assert "damaged rows: 1 in ends" in capsys.readouterr().out
    assert doctor(folder, "--export", str(folder / "out"), "--repair", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["damaged"], said["exported"]) == ({"ends": 1}, 0)
    assert Path(said["repaired"]).exists()
    assert doctor(folder, "--journal") == 0


def test_without_options_it_checks_what_may_keep_the_cluster_from_working(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert {"versions", "limits", "disk", "files", "core", "proxies", "units"} <= {line.split()[1] for line in lines}
    assert doctor(folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["subject"] == "versions"
