"""The frames of a failed call, which lb.debug and `future.frames` show without the process of the call.

A payload of frames is JSON, followed by the pickles of values (frame_values.py). The JSON is a list, the outermost
frame first, of

    {"function": name, "file": "Cell In[7]" or a path, "line": n, "first": number of source[0], "source": [lines],
     "locals": {name: repr}, "values": {name: [where its pickle begins, bytes]}}

All sizes are bounded, whatever the task's variables are; values named like a secret are left out.
"""

from __future__ import annotations

import inspect
import json
import linecache
import re
import reprlib
import types
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, thread_time
from typing import Any

from nblb.payload.frame_values import MAX_VALUES, pack_value
from nblb.payload.functions import cell_label
from nblb.protocol.framing import Payload
from nblb.user_text import kind_of

MAX_FRAMES = 20
MAX_LOCALS = 100  # variables of a frame
MAX_REPR = 200  # characters of a value
MAX_BYTES = 32 * 1024  # of all frames together
MAX_CALL = 300  # characters
MAX_CPU_S = 0.2  # for the reprs and values of one failure: on a busy machine they get as far as on an idle one …
MAX_TIME_S = 5.0  # … unless a repr waits for something
AROUND = 5  # source lines before and after

HIDDEN = "‹not shown: its name says it is a secret›"

_secrets = {"password", "passwd", "passphrase", "pwd", "token", "secret", "key", "apikey", "credential", "credentials"}
_words = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def is_secret(name: str) -> bool:
    """Return True if a variable of this name must not be shown: 'api_key', 'dbPassword', 'tokens'."""
    words = [word.lower() for word in _words.findall(name)]
    return any(word in _secrets or word.rstrip("s") in _secrets for word in words)


class _Bounded(reprlib.Repr):
    """Short reprs that do not traverse large containers as a whole."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = most
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = 12
        self.maxlevel = 3

    def repr_bytes(self, value: bytes, level: int) -> str:  # noqa: ARG002
        return repr(value) if len(value) <= self.maxstring else f"{value[:40]!r}…"

    def repr_instance(self, value: Any, level: int) -> str:  # noqa: ARG002
        text = repr(value)
        return text if len(text) <= self.maxother else f"{text[: self.maxother // 2]}…{text[-self.maxother // 3 :]}"

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        hidden = {key: _Hidden() for key in value if isinstance(key, str) and is_secret(key)} if level > 0 else {}
        return super().repr_dict({**value, **hidden} if hidden else value, level)


class _Hidden:
    def __repr__(self) -> str:
        return HIDDEN


def short(value: Any, most: int = MAX_REPR) -> str:
    """Return a repr of at most `most` characters; never raises."""
    try:
        text = _Bounded(most).repr(value)
    except BaseException as error:
        return f"<{kind_of(value)}, whose repr fails: {kind_of(error)}>"
    text = " ".join(text.split()) if len(text) > most or "\n" in text else text
    return text if len(text) <= most else f"{text[: most - 1]}…"


def describe_call(function: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the call as text, 'simulate(3, n=1000)', without secrets.

    A function's `__nblb_call__`, if any, replaces it: a text, or a function of the arguments that returns one.
    """
    said = getattr(function, "__nblb_call__", None)
    if said is not None:
        return str(said(*args, **kwargs) if callable(said) else said)
    try:
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        names = []
    words = [
        HIDDEN if at < len(names) and is_secret(names[at]) else short(value, 60) for at, value in enumerate(args[:20])
    ]
    words += ["…"] * (len(args) > 20)
    words += [f"{key}={HIDDEN if is_secret(key) else short(value, 60)}" for key, value in list(kwargs.items())[:20]]
    call = f"{name}({', '.join(words)})"
    return call if len(call) <= MAX_CALL else f"{call[: MAX_CALL - 2]}…)"


def pack_frames(
    tb: types.TracebackType | None, is_user: Callable[[str], bool], most_values: int = MAX_VALUES
) -> Payload | None:
    """Pack the frames of the user's own code in a traceback (the innermost frame if none is); None without frames."""
    found: list[tuple[types.FrameType, int]] = []
    while tb is not None:
        found.append((tb.tb_frame, tb.tb_lineno))
        tb = tb.tb_next
    chosen = [pair for pair in found if is_user(pair[0].f_code.co_filename)] or found[-1:]
    budget, left = _TimeBudget(), MAX_BYTES
    packed: list[bytes] = []
    values = _FrameValues(most_values, budget)
    for frame, line in reversed(chosen[-MAX_FRAMES:]):  # the innermost frames matter most
        one = json.dumps(_frame(frame, line, budget, left, values), ensure_ascii=False).encode("utf-8", "replace")
        left -= len(one)
        if left < 0 and packed:
            break
        packed.insert(0, one)
    if not packed:
        return None
    text = b"[" + b",".join(packed) + b"]"
    return Payload((text, bytes(values.pickled)) if values.pickled else (text,))


class _TimeBudget:
    """The processor time, and the time, that the frames of one failure may take."""

    def __init__(self) -> None:
        self._cpu_until, self._until = thread_time() + MAX_CPU_S, perf_counter() + MAX_TIME_S

    @property
    def is_spent(self) -> bool:
        return thread_time() > self._cpu_until or perf_counter() > self._until


class _FrameValues:
    """The pickles of variables, one after another."""

    def __init__(self, most: int, budget: _TimeBudget) -> None:
        self.pickled = bytearray()
        self._most, self._budget = most, budget

    def add(self, value: Any) -> list[int] | None:
        """Return the place of the value's pickle: [begin, bytes]."""
        if self._budget.is_spent:
            return None
        begin = len(self.pickled)
        one = pack_value(value, self._most - begin, is_secret)
        if one is None:
            return None
        self.pickled += one
        return [begin, len(one)]


def _frame(frame: types.FrameType, line: int, budget: _TimeBudget, left: int, values: _FrameValues) -> dict[str, Any]:
    code = frame.f_code
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    first = max(1, line - AROUND)
    shown, kept = _locals(frame, budget, left // 2, values)
    return {
        "function": getattr(code, "co_qualname", code.co_name).replace("<locals>.", ""),
        "file": cell_label(code.co_filename) or code.co_filename,
        "line": line,
        "first": first,
        "source": [text.rstrip("\n")[:MAX_REPR] for text in lines[first - 1 : line + AROUND]],
        "locals": shown,
        "values": kept,
    }


def _locals(
    frame: types.FrameType, budget: _TimeBudget, left: int, values: _FrameValues
) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Return the variables as texts, and the places of the pickles of some of them."""
    shown: dict[str, str] = {}
    kept: dict[str, list[int]] = {}
    try:
        found = dict(frame.f_locals)
    except Exception:
        return shown, kept
    for name, value in found.items():
        if name.startswith("__") or isinstance(value, (types.ModuleType, types.FunctionType, type)):
            continue
        if len(shown) >= MAX_LOCALS or left < 0 or budget.is_spent:
            shown["…"] = "there are more"
            break
        if is_secret(name):
            shown[name] = HIDDEN
        else:
            shown[name] = short(value)
            place = values.add(value)
            if place is not None:
                kept[name] = place
        left -= len(name) + 4 * len(shown[name])
    return shown, kept
