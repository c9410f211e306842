"""docs/protocol.md: its tables are generated from the messages. `pytest --rewrite` writes them again."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from nblb.protocol import messages
from tests.rewriting import compare

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
TABLES = {
    "Client to core": messages.FromClient,
    "Core to client": messages.ToClient,
    "Core to hub": messages.ToHub,
    "Hub to core": messages.FromHub,
}
KINDS: list[type[msgspec.Struct]] = list(dict.fromkeys(kind for table in TABLES.values() for kind in get_args(table)))


def row(kind: type[msgspec.Struct]) -> str:
    """A message's name, its fields (those that may be left out with a question mark), and its docstring."""
    fields = ", ".join(
        f"`{field.encode_name}`{'' if field.required else '?'}" for field in msgspec.structs.fields(kind)
    )
    meaning = " ".join(inspect.cleandoc(kind.__doc__ or "").split()).replace("|", "\\|")
    return f"| `{kind.__name__}` | {f'{fields} ' if fields else ''}| {meaning} |"


def table(union: Any) -> str:
    head = "| message | fields (? may be left out) | meaning |\n|---|---|---|\n"
    return head + "\n".join(map(row, get_args(union))) + "\n"


def test_the_tables_are_those_of_the_messages(request: pytest.FixtureRequest) -> None:
    made = PAGE.read_text(encoding="utf-8")
    for heading, union in TABLES.items():
        pattern = re.compile(rf"(^### {heading}\n\n)(?:\|[^\n]*\n)+", re.MULTILINE)
        assert len(pattern.findall(made)) == 1, heading
        made = pattern.sub(lambda found, union=union: found[1] + table(union), made)  # type: ignore[misc]
    compare(PAGE, made, request.config.getoption("--rewrite"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_says_what_it_is(kind: type[msgspec.Struct]) -> None:
    assert "__doc__" in vars(kind), "it has the docstring of its base class"
    assert kind.__doc__ != messages.Message.__doc__
