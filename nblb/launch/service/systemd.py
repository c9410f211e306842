"""Installs, removes and looks at the systemd units of this account or of the computer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nblb.errors import NblbError
from nblb.launch.service.unit_file import ServiceUnit

SYSTEM_FOLDER = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")  # exists where systemd is the first process
LINGER = Path("/var/lib/systemd/linger")
LOGIND = (Path("/usr/lib/systemd"), Path("/run/systemd"), Path("/etc/systemd"))  # later ones count more
ANSWER_S = 20.0


class UnitState(NamedTuple):
    """What is known of one unit; `enabled` and `active` are systemd's words, "" where it does not run."""

    name: str
    path: Path
    is_system: bool
    enabled: str = ""
    active: str = ""


class Systemd:
    """The units of this account, or with `is_system` those of the computer."""

    def __init__(self, is_system: bool) -> None:
        self.is_system = is_system
        self.folder = SYSTEM_FOLDER if is_system else _user_folder()

    # ── changes ──

    def install(self, unit: ServiceUnit, begin: bool = True) -> tuple[Path, list[str]]:
        """Write the unit, have it checked, and enable it where systemd runs.

        Parameters
        ----------
        unit
            The unit.
        begin
            Start it as well.

        Returns
        -------
        tuple
            The path of its file, and sentences on what was not done.

        Raises
        ------
        NblbError
            It cannot be written, or systemd refuses it; then no file is left.
        """
        if self.is_system and os.geteuid() != 0:
            raise NblbError("only root can install a unit of the computer; use sudo, or --user for one of this account")
        path = self.folder / unit.name
        before = path.read_bytes() if path.exists() else None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(unit.text())
            path.chmod(0o644)
        except OSError as error:
            raise NblbError(f"the unit {path} cannot be written: {error.strerror or error}") from None
        try:
            notes = self._verify(path)
            if why := self.why_not_here():
                how = self.how_to_enable(unit.name)
                return path, [*notes, f"{why}, so the unit was only written; enable it with: {how}"]
            self._order("daemon-reload")
            self._order("enable", *(["--now"] if begin else []), unit.name)
        except NblbError:
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)
            raise
        if begin:
            self._order("restart", unit.name)  # one that ran already runs with the new file
        return path, notes

    def uninstall(self, name: str) -> bool:
        """Stop, disable and remove a unit; return False if there is none.

        Raises
        ------
        NblbError
            systemd refuses, or the file cannot be removed.
        """
        path = self.folder / name
        if not path.exists():
            return False
        runs = not self.why_not_here()
        if runs:
            self._order("disable", "--now", name)
        try:
            path.unlink()
        except OSError as error:
            raise NblbError(f"the unit {path} cannot be removed: {error.strerror or error}") from None
        if runs:
            self._order("daemon-reload")
        return True

    # ── questions ──

    def units(self, cluster: str = "") -> list[UnitState]:
        """Return the installed units of nblb, or those of one cluster."""
        pattern = f"nblb-{cluster}-*.service" if cluster else "nblb-*.service"
        runs = not self.why_not_here()
        found = []
        for path in sorted(self.folder.glob(pattern)) if self.folder.is_dir() else ():
            enabled = self._said("is-enabled", path.name) if runs else ""
            active = self._said("is-active", path.name) if runs else ""
            found.append(UnitState(path.name, path, self.is_system, enabled, active))
        return found

    def why_not_here(self) -> str:
        """Return a clause on why units cannot be enabled here; "" if they can."""
        if shutil.which("systemctl") is None or not RUNNING.is_dir():
            return "systemd does not run on this computer"
        if not self.is_system and self._run("show-environment").returncode != 0:
            return "this account has no systemd of its own, as in a shell of su or sudo"
        return ""

    def how_to_enable(self, name: str) -> str:
        """Return the commands that enable and start a unit."""
        word = "systemctl" if self.is_system else "systemctl --user"
        return f"{word} daemon-reload && {word} enable --now {name}"

    def _verify(self, path: Path) -> list[str]:
        """Have systemd check the unit; return a sentence if it could not, and raise NblbError if it finds a fault."""
        if shutil.which("systemd-analyze") is None:
            return ["the unit was not checked, since systemd-analyze is not installed"]
        words = ["systemd-analyze", *([] if self.is_system else ["--user"]), "--man=no", "verify", str(path)]
        try:
            done = _run(words)
        except (OSError, subprocess.TimeoutExpired) as error:
            return [f"the unit was not checked: systemd-analyze says {error}"]
        said = [line for line in (done.stderr + done.stdout).splitlines() if path.name in line]
        if said:
            raise NblbError(f"systemd refuses the unit {path}: {'; '.join(said)}")
        if done.returncode:
            return [f"the unit was not checked: {(done.stderr or done.stdout).strip() or 'systemd-analyze has failed'}"]
        return []

    def _order(self, *words: str) -> None:
        done = self._run(*words)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise NblbError(f"'systemctl {' '.join(words)}' has failed: {said or f'exit code {done.returncode}'}")

    def _said(self, *words: str) -> str:
        return self._run(*words).stdout.strip()

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["systemctl", *([] if self.is_system else ["--user"]), *words]
        try:
            return _run(command)
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 1, "", str(error))


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL
    )


def _user_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def lingers(account: str) -> bool:
    """Return True if the account's units run without it being logged in."""
    return (LINGER / account).exists()


def ends_sessions() -> bool | None:
    """Return True if logind ends what a session has started at its log-out; None where that is not configured."""
    files = [f for folder in LOGIND for f in (folder / "logind.conf", *sorted(folder.glob("logind.conf.d/*.conf")))]
    found: bool | None = None
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        for word in re.findall(r"^\s*KillUserProcesses\s*=\s*(\w+)", text, re.MULTILINE):
            found = word.lower() in ("yes", "true", "on", "1")
    return found


def life_sentences(units: Sequence[UnitState], account: str) -> list[str]:
    """Return what a log-out and a restart of the computer do to these units, and to a cluster that has none."""
    sentences = []
    if any(unit.is_system for unit in units):
        sentences.append("units of the computer run without anybody logged in, and start with the computer")
    if not all(unit.is_system for unit in units):
        if lingers(account):
            sentences.append(
                f"lingering is on for {account}: its units go on after a log-out, and start with the computer"
            )
        else:
            sentences.append(
                f"lingering is off for {account}: its units end at the last log-out, and start at the next login, not "
                f"with the computer; 'loginctl enable-linger {account}' changes both"
            )
    kills = ends_sessions()
    if kills or not units:
        what = "a cluster of 'nblb start' or %lb_start"
        ended = {
            True: f"{what} ends at the log-out (KillUserProcesses=yes in logind.conf)",
            False: f"{what} goes on after a log-out (KillUserProcesses=no)",
            None: f"{what} goes on after a log-out, unless logind was built with KillUserProcesses=yes",
        }[kills]
        sentences.append(f"{ended}; after a restart of the computer 'nblb start' has to be run again")
    return sentences
