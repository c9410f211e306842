"""nblb.protocol.messages: one public module, with every message in the union of its direction."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from nblb.protocol import messages
from nblb.protocol.messages import Message

MODULES = [
    importlib.import_module(f"nblb.protocol.messages.{module.name}")
    for module in pkgutil.iter_modules(messages.__path__)
]
UNIONS = {
    "from_client": messages.FromClient,
    "to_client": messages.ToClient,
    "from_hub": messages.FromHub,
    "to_hub": messages.ToHub,
}
ROOT = Path(__file__).parents[2]


def own(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_package_exports_each_name_of_its_modules(module: ModuleType) -> None:
    assert own(module)
    assert {name: getattr(messages, name, None) for name in own(module)} == own(module)


@pytest.mark.parametrize("direction", UNIONS)
def test_each_message_is_in_the_union_of_its_direction(direction: str) -> None:
    module = importlib.import_module(f"nblb.protocol.messages.{direction}")
    kinds = {value for value in own(module).values() if isinstance(value, type) and issubclass(value, Message)}
    assert kinds <= set(get_args(UNIONS[direction]))


def test_other_packages_import_messages_from_the_package_only() -> None:
    inner = re.compile(r"from nblb\.protocol\.messages(\.\w+) import")
    files = [path for folder in ("nblb", "tests") for path in (ROOT / folder).rglob("*.py")]
    found = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if "nblb/protocol/messages" not in path.as_posix() and inner.search(path.read_text(encoding="utf-8"))
    ]
    assert not found
