"""The folder in which hubs store the output of this core's tasks; the core makes and tidies it, and never reads it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from nblb.shared_files.output_log import folder_name

FREED_BYTES = 64 * 1024 * 1024  # freed at once, when the journal finds no room


class OutputFolder:
    """The output folder, named after the core: a hub that finds it is on the same machine. Unowned files go."""

    def __init__(self, state_dir: Path, core: str) -> None:
        self._base = state_dir / "output"
        self.path = self._base / core
        with contextlib.suppress(OSError):  # a full disk: no output is stored, results may still be
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sweep(self, records: Iterable[str]) -> None:
        """Remove the output of another core, and the output of tasks that are not among these submissions."""
        known = {folder_name(record) for record in records}
        with contextlib.suppress(OSError):
            for other in self._base.iterdir():
                if other != self.path:
                    shutil.rmtree(other, ignore_errors=True)
            for entry in os.scandir(self.path):
                if entry.name not in known:
                    shutil.rmtree(entry.path, ignore_errors=True)

    def drop(self, record: str) -> None:
        """Remove the output of a dropped submission."""
        path = self.path / folder_name(record)
        with contextlib.suppress(OSError):
            for file in path.iterdir():
                file.unlink()
            path.rmdir()

    def make_room(self) -> bool:
        """Delete the oldest output to free disk space; return False if there is none."""
        ages: list[tuple[float, int, str]] = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.path):
                with contextlib.suppress(OSError):
                    held = sum(file.stat().st_size for file in os.scandir(entry.path))
                    ages.append((entry.stat().st_mtime, held, entry.path))
        freed = 0
        for _, held, path in sorted(ages):
            shutil.rmtree(path, ignore_errors=True)
            freed += held
            if freed >= FREED_BYTES:
                break
        return freed > 0
