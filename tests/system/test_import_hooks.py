"""A hook on the import of a module runs then, once, and never imports the module itself."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from nblb.system.import_hooks import when_imported


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "nblb_late.py").write_text("value = 3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nblb_late", raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return "nblb_late"


def test_then_is_called_once_the_module_is_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ModuleType] = []
    finders = len(sys.meta_path)
    when_imported(name, seen.append)
    assert not seen
    assert name not in sys.modules
    module = __import__(name)
    assert [each.value for each in seen] == [3]
    assert seen[0] is module
    assert len(sys.meta_path) == finders
    monkeypatch.delitem(sys.modules, name)
    __import__(name)
    assert len(seen) == 1


def test_at_once_if_it_is_imported_already(name: str) -> None:
    module = __import__(name)
    seen: list[ModuleType] = []
    when_imported(name, seen.append)
    assert seen == [module]


def test_a_module_that_is_not_there_stays_an_ImportError() -> None:
    when_imported("nblb_nowhere", lambda module: None)
    with pytest.raises(ModuleNotFoundError, match="nblb_nowhere"):
        __import__("nblb_nowhere")
