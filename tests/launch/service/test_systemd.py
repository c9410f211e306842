"""Installing units: where systemd runs, by a stand-in for systemctl, and where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nblb.errors import NblbError
from nblb.launch.service import systemd
from nblb.launch.service.systemd import Systemd, UnitState, ends_sessions, life_sentences, lingers
from nblb.launch.service.unit_file import ServiceUnit

UNIT = ServiceUnit("lab", "core", ["/usr/bin/env", "nblb", "core"])

SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
*is-enabled*) echo enabled;;
*is-active*) echo active;;
*"{refused}"*) echo "Unit is masked." >&2; exit 1;;
esac
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that stands in for the system's; systemd seems to run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    running = tmp_path / "running"
    running.mkdir()
    monkeypatch.setattr(systemd, "RUNNING", running)
    monkeypatch.setattr(systemd, "SYSTEM_FOLDER", tmp_path / "system")
    program(folder, "systemctl", SYSTEMCTL.format(log=tmp_path / "log", refused="never"))
    program(folder, "systemd-analyze", "#!/bin/sh\nexit 0\n")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def told(commands: Path) -> list[str]:
    log = commands.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_unit_is_written_enabled_started_and_removed(commands: Path) -> None:
    own = Systemd(is_system=False)
    path, notes = own.install(UNIT)
    assert notes == []
    assert path.read_text() == UNIT.text()
    assert [words for words in told(commands) if "show-environment" not in words] == [
        "--user daemon-reload", f"--user enable --now {UNIT.name}", f"--user restart {UNIT.name}",
    ]  # fmt: skip
    assert own.units() == [UnitState(UNIT.name, path, False, "enabled", "active")]
    assert own.units("another") == []
    assert own.uninstall(UNIT.name)
    assert f"--user disable --now {UNIT.name}" in told(commands)
    assert not path.exists()
    assert not own.uninstall(UNIT.name)


def test_without_a_start_it_is_enabled_only(commands: Path) -> None:
    Systemd(is_system=False).install(UNIT, begin=False)
    assert f"--user enable {UNIT.name}" in told(commands)
    assert not any("restart" in words for words in told(commands))


def test_without_systemd_it_is_written_and_says_how_to_enable(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "RUNNING", tmp_path / "nowhere")
    path, (note,) = Systemd(is_system=False).install(UNIT)
    assert path.exists()
    assert "systemd does not run on this computer" in note
    assert f"systemctl --user daemon-reload && systemctl --user enable --now {UNIT.name}" in note
    assert told(commands) == []
    assert Systemd(is_system=False).uninstall(UNIT.name)


def test_what_systemd_refuses_leaves_no_file(commands: Path, tmp_path: Path) -> None:
    program(commands, "systemd-analyze", f"#!/bin/sh\necho '{UNIT.name}:7: Unknown key' >&2; exit 1\n")
    own = Systemd(is_system=False)
    with pytest.raises(NblbError, match=r"systemd refuses.*Unknown key"):
        own.install(UNIT)
    assert not (own.folder / UNIT.name).exists()
    program(commands, "systemd-analyze", "#!/bin/sh\necho 'no cgroups here' >&2; exit 1\n")
    program(commands, "systemctl", SYSTEMCTL.format(log=tmp_path / "log", refused="enable"))
    (own.folder / UNIT.name).write_text("before")
    with pytest.raises(NblbError, match=r"enable --now .* has failed: Unit is masked"):
        own.install(UNIT)
    assert (own.folder / UNIT.name).read_text() == "before"


def test_only_root_installs_a_unit_of_the_computer(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NblbError, match="only root"):
        Systemd(is_system=True).install(UNIT)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path, _ = Systemd(is_system=True).install(UNIT)
    assert path.parent == systemd.SYSTEM_FOLDER
    assert told(commands)[0] == "daemon-reload"


def test_an_account_without_a_systemd_of_its_own(commands: Path) -> None:
    program(commands, "systemctl", "#!/bin/sh\nexit 1\n")
    _, (note,) = Systemd(is_system=False).install(UNIT)
    assert "this account has no systemd of its own" in note


@pytest.mark.parametrize(("text", "kills"), [("KillUserProcesses=yes", True), ("KillUserProcesses=no", False),
                                             ("#KillUserProcesses=yes", None)])  # fmt: skip
def test_what_a_log_out_ends(text: str, kills: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logind.conf").write_text(f"[Login]\n{text}\n")
    monkeypatch.setattr(systemd, "LOGIND", (tmp_path,))
    assert ends_sessions() is kills
    (tmp_path / "logind.conf.d").mkdir()
    (tmp_path / "logind.conf.d" / "lab.conf").write_text("[Login]\nKillUserProcesses=no\n")
    assert ends_sessions() is False


def test_what_a_log_out_and_a_restart_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "LOGIND", ())
    monkeypatch.setattr(systemd, "LINGER", tmp_path)
    own, whole = UnitState("a", Path("a"), False), UnitState("b", Path("b"), True)
    assert not lingers("anna")
    (sentence,) = life_sentences([own], "anna")
    assert "'loginctl enable-linger anna'" in sentence
    (tmp_path / "anna").touch()
    (sentence,) = life_sentences([own], "anna")
    assert "go on after a log-out" in sentence
    (sentence,) = life_sentences([whole], "anna")
    assert "start with the computer" in sentence
    (sentence,) = life_sentences([], "anna")
    assert "'nblb start' has to be run again" in sentence
