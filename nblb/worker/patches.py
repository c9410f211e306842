"""Patches of libraries, applied in a worker when a task first imports the library, and not before."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from nblb.worker import displays, progress_bars
from nblb.worker.fresh_imports import fresh_imports

Patch = Callable[[Any], None]

PATCHES: dict[str, Patch] = {
    "tqdm.std": progress_bars.patch_tqdm,
    "tqdm.notebook": progress_bars.patch_tqdm_notebook,
    "rich.progress": progress_bars.patch_rich,
    "IPython.core.display_functions": displays.patch_ipython,
    "matplotlib": displays.patch_matplotlib,
}


class Patching:
    """A finder in front of all others: it patches modules that the others load, and keeps imports fresh."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        patch = PATCHES.get(name)
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: importlib.machinery.ModuleSpec | None = find(name, path, target)
            if spec is not None:
                fresh_imports.loader_for(spec)
                if patch is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    _patch_after(spec.loader, patch)
                return spec
        return None


def _patch_after(loader: Any, patch: Patch) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        try:
            patch(module)
        except Exception as error:  # a version with a different structure: the task runs without the patch
            print(f"nblb cannot follow {module.__name__} in tasks: {error!r}", file=sys.stderr)

    loader.exec_module = exec_module


def install() -> None:
    """Install the finder, once in each worker."""
    for name, patch in PATCHES.items():
        if name in sys.modules:
            patch(sys.modules[name])
    sys.meta_path.insert(0, Patching())
