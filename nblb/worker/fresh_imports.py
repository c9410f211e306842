"""Imports modules of the project again when their files have changed."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import os
import sys
from types import CodeType, ModuleType
from typing import Any

from nblb.payload import is_project_file

Stamp = tuple[int, int, int]  # a file's modification time in nanoseconds, size and inode


class FreshImports:
    """The source files that this worker has imported, each with its stamp and content hash at that time.

    `loader_for` gives the import system a loader that reads the source itself instead of Python's compiled file, which
    may be outdated by an edit in the same second. `refresh`, called before each slice, checks the files: when the
    content of one has changed, all modules of the project are dropped from sys.modules, since any of them may have
    imported from it. Without a change they stay, with their state.
    """

    def __init__(self) -> None:
        self._files: dict[str, tuple[Stamp | None, bytes]] = {}  # path -> stamp and content hash
        self._modules: dict[str, ModuleType] = {}

    def loader_for(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Load a module of the project with a loader that records what it has read."""
        if type(spec.loader) is importlib.machinery.SourceFileLoader and is_project_file(spec.origin or ""):
            spec.loader = _NotingLoader(spec.loader.name, spec.loader.path)

    def read(self, path: str, stamp: Stamp | None, source: bytes) -> None:
        """Record the source of a module that is about to be loaded."""
        self._files[path] = stamp, hashlib.blake2b(source, digest_size=16).digest()

    def loaded(self, module: ModuleType) -> None:
        """Record a module that was loaded."""
        self._modules[module.__name__] = module

    def refresh(self) -> None:
        """Drop the project's modules if one of their files has changed."""
        if not self._files or not any(map(self._has_changed, list(self._files))):
            return
        for name, module in self._modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        self._files.clear()
        self._modules.clear()
        importlib.invalidate_caches()

    def _has_changed(self, path: str) -> bool:
        stamp, content = self._files[path]
        now = stamp_of(path)
        if now == stamp and now is not None:
            return False
        try:
            with open(path, "rb") as file:
                source = file.read()
        except OSError:  # it is being written, or was removed
            return True
        if hashlib.blake2b(source, digest_size=16).digest() != content:
            return True
        self._files[path] = now, content
        return False


def stamp_of(path: str) -> Stamp | None:
    """Return values that change when a file is edited; None if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116  # for each file before each slice
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class _NotingLoader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002  # the import system's form
        stamp = stamp_of(self.path)  # before the read: an edit in between is noticed next time
        source = self.get_data(self.path)
        fresh_imports.read(self.path, stamp, source)
        code: Any = self.source_to_code(source, self.path)
        return code  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        fresh_imports.loaded(module)
        super().exec_module(module)


fresh_imports = FreshImports()
