"""The folder in which hubs store the output of this core's tasks; the core makes and tidies it, and never reads it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nblb.errors import NblbError
from nblb.shared_files.output_log import folder_name, remove_folder
from nblb.system.private_folder import private_folder
from nblb.system.state_mark import CORE

FREED_BYTES = 64 * 1024 * 1024  # freed at once, when the journal finds no room


class OutputFolder:
    """The output folder, named after the core: a hub that finds it is on the same machine. Unowned files go."""

    def __init__(self, state_dir: Path, core: str) -> None:
        self._base = state_dir / "output"
        self.path = self._base / core
        with contextlib.suppress(OSError, NblbError):  # a full disk: no output is stored, results may still be
            private_folder(self._base)
            private_folder(self.path)

    def sweep(self, records: Iterable[str]) -> None:
        """Remove the output of another core, and the output of tasks that are not among these submissions."""
        known = {folder_name(record) for record in records}
        for record in _folders(self.path):
            if record.name not in known:
                remove_folder(record.path)
        for core in _folders(self._base):
            if core.path != str(self.path):
                freed = sum(remove_folder(record.path) for record in _folders(core.path))
                if freed or CORE.fullmatch(core.name):
                    with contextlib.suppress(OSError):  # something else is in it
                        Path(core.path).rmdir()

    def drop(self, record: str) -> None:
        """Remove the output of a dropped submission."""
        remove_folder(self.path / folder_name(record))

    def bound(self, most: int) -> None:
        """Remove the oldest output if all of it has more bytes than `most`."""
        sized = [(at, path, _size(path)) for at, path in sorted(self._by_age())]
        whole = sum(size for _, _, size in sized)
        for _, path, size in sized[:-1]:
            if whole <= most:
                return
            remove_folder(path)
            whole -= size

    def make_room(self) -> bool:
        """Delete the oldest output to free disk space; return False if there is none."""
        freed = 0
        for _, path in sorted(self._by_age()):
            freed += remove_folder(path)
            if freed >= FREED_BYTES:
                break
        return freed > 0

    def _by_age(self) -> Iterator[tuple[float, str]]:
        for entry in _folders(self.path):
            with contextlib.suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_mtime, entry.path


def _size(path: str) -> int:
    try:
        with os.scandir(path) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0


def _folders(path: Path | str) -> list[os.DirEntry[str]]:
    """Return the folders in a folder, without links; none if the folder itself is a link."""
    with contextlib.suppress(OSError):
        if not Path(path).is_symlink():
            with os.scandir(path) as entries:
                return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []
