"""The files by which others find this core: core.json, the record in the state folder's lock, and its sockets.

Log-outs and cleaners of temporary files remove such files while the core runs. It looks at them every second, and
makes those again that are missing twice in succession: the first time, somebody may be removing their folder. If the
state folder itself is gone, the journal is, too, and the core has to end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nblb.broker.journal.state_folder import StateFolder
from nblb.errors import NblbError
from nblb.parameters import Parameters
from nblb.transport.descriptors import refusal
from nblb.transport.doors import Doors

KEEP_S = 1.0
MISSED = 2  # looks at which a file is missing, before it is made again
GONE_S = 5.0  # without its state folder a core ends after this time


class Discovery:
    """The files of one core; `about` returns what they contain, `log` gets (level, text)."""

    def __init__(
        self,
        parameters: Parameters,
        folder: StateFolder,
        doors: Doors,
        about: Callable[[], Mapping[str, Any]],
        log: Callable[[str, str], None],
    ) -> None:
        self._parameters, self._folder, self._doors = parameters, folder, doors
        self._about, self._log = about, log
        self._path = parameters.connection_file
        self._written: os.stat_result | None = None
        self._keep_at = 0.0
        self._gone_since: float | None = None
        self._missed = 0  # looks in succession
        self._trouble = ""
        self._was_full = False

    def publish(self) -> None:
        """Write core.json and the record."""
        about = self._about()
        self._path = Path(about["runtime_dir"]) / "core.json"
        rough = self._path.with_name(f".core-{os.getpid()}.tmp")
        with open(os.open(rough, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(about)))
            file.flush()
            self._written = os.fstat(file.fileno())
        rough.rename(self._path)
        self._folder.record(about)

    def withdraw(self) -> None:
        """Remove core.json and the addresses, so that nobody dials a closing core."""
        self._path.unlink(missing_ok=True)
        self._folder.record({"addresses": {}})

    @property
    def deadline(self) -> float:
        """The time at which `keep` is due."""
        return self._keep_at

    def keep(self, now: float) -> str:
        """Make missing files again, once a second; return a reason to end the core, or "".

        Raises
        ------
        JournalLocked
            Another core has locked the state folder meanwhile.
        """
        if now < self._keep_at:
            return ""
        self._keep_at = now + KEEP_S
        if not self._folder.keep():
            if self._gone_since is None:
                self._gone_since = now
            gone = now - self._gone_since >= GONE_S
            return f"its state folder {self._folder.path} has been removed or replaced" if gone else ""
        self._gone_since = None
        self._tell_if_full()
        is_whole = self._doors.are_there() and self._is_written()
        self._missed = 0 if is_whole else self._missed + 1
        if self._missed < MISSED:
            return ""
        try:
            if self._doors.keep() or not self._is_written():
                self.publish()
                self._log("warning", f"LB - RESTORED : files in {self._path.parent} had been removed")
            self._trouble = ""
        except (NblbError, OSError) as error:  # a full disk, for example: the next call tries again
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._log("error", f"LB - CANNOT RESTORE the files by which this core is found : {error}")
        return ""

    def _tell_if_full(self) -> None:
        if self._doors.is_full != self._was_full:
            self._was_full = self._doors.is_full
            if self._was_full:
                self._log("warning", f"LB - FULL : {refusal().reason}")
            else:
                self._log("info", "LB - WITH ROOM for connections again")

    def _is_written(self) -> bool:
        written = self._written
        try:
            found = self._path.lstat()
        except OSError:
            return False
        return (
            written is not None
            and os.path.samestat(written, found)
            and (written.st_size, written.st_mtime_ns) == (found.st_size, found.st_mtime_ns)
        )
