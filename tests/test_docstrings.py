"""Every public name has a docstring in numpy's style: purpose, parameters, return value and an example."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nblb
from nblb.client.executor import Executor
from nblb.client.futures.single_tasks import TaskList, TaskRow
from nblb.client.jobs.inbox import Finished, Inbox
from nblb.client.rows import ClusterStatus, CoreInfo, HubInfo, JobInfo, JobList, UserInfo, WorkerInfo

# Classes that public functions give, beside those of nblb.__all__.
GIVEN = (
    ClusterStatus,
    CoreInfo,
    HubInfo,
    JobInfo,
    JobList,
    UserInfo,
    WorkerInfo,
    TaskRow,
    TaskList,
    Inbox,
    Finished,
    Executor,
)
SECTIONS = r"Parameters|Returns|Yields|Raises|Attributes|Notes|See Also|Examples"
HEADING = re.compile(rf"^({SECTIONS})\n-+$", re.MULTILINE)
MADE_HERE = {"TaskFuture", "Job", "JobList", "Inbox", "Finished", "Executor"}  # classes whose objects users do not make
OPENINGS = re.compile(r"^(What|Whether|Who|How|Why|Where|When|Which)\b")  # of a sentence that says no thing and no deed


def sections(text: str) -> dict[str, str]:
    """The sections of a docstring, by heading; "" is what stands before the first."""
    parts = HEADING.split(inspect.cleandoc(text))
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(section: str) -> set[str]:
    """The names that a section of parameters describes."""
    heads = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return {name.strip().lstrip("*") for line in heads for name in line.split(":")[0].split(",")}


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that are ours, and not inherited from Python."""
    for name in sorted(
        {*vars(kind)}.union(*(vars(base) for base in kind.__mro__ if base.__module__.startswith("nblb")))
    ):
        if name.startswith("_"):
            continue
        found = inspect.getattr_static(kind, name)
        if getattr(found, "__name__", name).startswith("_"):
            continue  # a method of dict that is refused
        found = found.__func__ if isinstance(found, (classmethod, staticmethod)) else found
        if isinstance(found, (property, functools.cached_property)) or inspect.isfunction(found):
            yield name, found


def everything() -> list[tuple[str, Any]]:
    """(dotted name, object) of each function, class, method and property that users hold."""
    found: list[tuple[str, Any]] = []
    homes = [(name, getattr(nblb, name)) for name in nblb.__all__ if name != "__version__"]
    for name, thing in [*homes, *((kind.__name__, kind) for kind in GIVEN)]:
        found.append((name, thing))
        if inspect.isclass(thing):
            found += [(f"{name}.{member}", what) for member, what in public_members(thing)]
    return found


EVERYTHING = everything()
FUNCTIONS = [(name, thing) for name, thing in EVERYTHING if inspect.isfunction(thing)]
WITH_EXAMPLE = [(name, thing) for name, thing in EVERYTHING if "." not in name]


def documented(thing: Any) -> str:
    """Its own docstring; a method of Python's that is made anew may stand without one only if that is inherited."""
    if isinstance(thing, property):
        return thing.fget.__doc__ or ""
    return thing.__doc__ or ""


def ids(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {"argvalues": [thing for _, thing in pairs], "ids": [name for name, _ in pairs]}


@pytest.mark.parametrize("thing", **ids(EVERYTHING))
def test_the_first_sentence_says_what_it_is(thing: Any) -> None:
    text = sections(documented(thing))[""]
    first = text.partition("\n\n")[0].replace("\n", " ")
    assert first, "it has no docstring"
    assert first.rstrip()[-1] in ".:!?…`)", first
    assert not OPENINGS.match(first), first


def parameters_of(function: Callable[..., Any]) -> tuple[set[str], set[str]]:
    """Its parameters by name, and those that stand for any keyword, whose names are described in their place."""
    there = [each for each in inspect.signature(function).parameters.values() if each.name not in ("self", "cls")]
    named = {each.name for each in there if each.kind is not each.VAR_KEYWORD and not each.name.startswith("_")}
    return named, {each.name for each in there if each.kind is each.VAR_KEYWORD}


@pytest.mark.parametrize("function", **ids(FUNCTIONS))
def test_each_parameter_is_described(function: Any) -> None:
    found = described(sections(documented(function)).get("Parameters", ""))
    named, keywords = parameters_of(function)
    assert named <= found, "of the signature"
    if keywords:
        assert found - named, f"**{keywords}"
    else:
        assert found == named, "it has no other parameters"


@pytest.mark.parametrize("function", **ids(FUNCTIONS))
def test_what_it_returns_is_described(function: Any) -> None:
    gives = function.__annotations__.get("return")
    text = sections(documented(function))
    if gives not in (None, "None", "NoReturn"):
        assert text.get("Returns", text.get("Yields", "")).strip(), gives
    for heading in ("Returns", "Yields", "Raises"):
        lines = [line for line in text.get(heading, "").splitlines() if line.strip()]
        assert len(lines) != 1, f"{heading} names a type and says nothing of it"


@pytest.mark.parametrize("kind", **ids([pair for pair in EVERYTHING if inspect.isclass(pair[1])]))
def test_what_a_class_is_made_of_is_described(kind: type) -> None:
    made = vars(kind).get("__init__")
    if made is None or not inspect.isfunction(made) or kind.__name__ in MADE_HERE:
        return
    text = sections(documented(kind))
    assert parameters_of(made)[0] - {"told"} <= described(text.get("Parameters", ""))


@pytest.mark.parametrize("thing", **ids(WITH_EXAMPLE))
def test_it_has_an_example(thing: Any) -> None:
    assert ">>>" in sections(documented(thing)).get("Examples", "")
