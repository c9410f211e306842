"""Exceptions that tasks raised, as text and, if they can be pickled, as the exceptions themselves.

The text shows the source lines of the notebook's cells (see functions.py) and leaves out nblb's own frames, which
come before the user's frames.
"""

from __future__ import annotations

import linecache
import os
import re
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nblb import errors
from nblb._version import PACKAGE_FOLDER
from nblb.errors import NblbError, NoCompatibleHub, NotSerializable, TaskCancelled, TaskError, TaskFailed, TaskLost
from nblb.payload.frame_values import MAX_VALUES, limited_pickle
from nblb.payload.frames import pack_frames
from nblb.payload.functions import cell_label
from nblb.payload.pickling import load
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure, TaskState
from nblb.user_text import clean, clean_name, kind_of, text_of

MAX_MESSAGE = 2_000
MAX_TRACEBACK = 16_000
MAX_LINE = 200
MAX_PICKLE = 1024 * 1024  # bytes of a pickled exception
MAX_ERROR = 500  # characters of an error that another one names

_traceback_of = BaseException.__dict__["__traceback__"].__get__  # a user's class may override it

_own_folder = PACKAGE_FOLDER + os.sep
_calling = tuple(f"{_own_folder}worker{os.sep}{name}.py" for name in ("calling", "main"))
_library = str(Path(os.__file__).parent) + os.sep
_place = re.compile(r'File "([^"\n]+)", line (\d+)')
_frame = re.compile(r'^  (?:File "([^"\n]+)"|(Cell In\[\d+\])), line (\d+)', re.MULTILINE)


def pack_exception(
    exception: BaseException,
    offset: int = 0,
    call: str = "",
    wants_frames: Callable[[str, str], int | None] = lambda _kind, _where: MAX_VALUES,
) -> Failure:
    """Return the failure that describes an exception and its place; never raises, whatever the exception is.

    `wants_frames(kind, where)` returns how many bytes of values to pack beside the frames; None: no frames.
    """
    kind, tb = kind_of(exception), _without_own(_traceback_of(exception))
    message = text_of(exception, MAX_MESSAGE)
    if isinstance(exception, NoCompatibleHub):  # its sentence says all
        return Failure(offset=offset, kind=kind, message=message)
    where, line = _where(tb)
    values = wants_frames(kind, where)
    return Failure(
        offset=offset,
        kind=kind,
        message=message,
        traceback=_traceback(exception, tb) or f"{kind}: {message}\n",
        where=clean_name(where),
        payload=_pickled(exception),
        line=clean(line, MAX_LINE),
        call=clean(call, MAX_MESSAGE),
        frames=_frames(tb, values) if values is not None else None,
    )


def _traceback(exception: BaseException, tb: types.TracebackType | None) -> str:
    """Return the traceback as the interpreter prints it, with each part bounded, since one line may have a gigabyte."""
    try:
        parts = traceback.TracebackException(type(exception), exception, tb).format()
        text = "".join(clean(part, MAX_TRACEBACK) for part in parts)
    except BaseException:  # a user's __str__, __notes__ or __cause__
        return ""
    return clean(_place.sub(_say_place, text), MAX_TRACEBACK)


def _frames(tb: types.TracebackType | None, most_values: int) -> Payload | None:
    try:
        return pack_frames(tb, lambda name: bool(cell_label(name)) or not _is_installed(name), most_values)
    except BaseException:  # the reprs of users' objects may raise
        return None


def _without_own(tb: types.TracebackType | None) -> types.TracebackType | None:
    """Return the traceback from the first frame outside nblb; None if the call failed because of its arguments."""
    first = last = tb
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_own_folder):
        last = tb
        tb = tb.tb_next
    refused = tb is None and last is not None and last.tb_frame.f_code.co_filename in _calling
    return None if refused else tb or first


def _say_place(found: re.Match[str]) -> str:
    label = cell_label(found[1])
    return f"{label}, line {found[2]}" if label else found[0]


def _where(tb: types.TracebackType | None) -> tuple[str, str]:
    """Return the innermost line of the user's own code, as 'cell In[7] line 4' or 'model.py line 12', and its text."""
    where = last = ("", "")
    while tb is not None:
        filename, line = tb.tb_frame.f_code.co_filename, tb.tb_lineno
        label = cell_label(filename)
        place = f"{label[:1].lower()}{label[1:]} line {line}" if label else f"{Path(filename).name} line {line}"
        last = place, linecache.getline(filename, line).strip()[:200]
        if label or not _is_installed(filename):
            where = last
        tb = tb.tb_next
    return where if where[0] else last


def _is_installed(filename: str) -> bool:
    return (
        "site-packages" in filename
        or "dist-packages" in filename
        or filename.startswith((_library, _own_folder, "<frozen"))
    )


def _pickled(exception: BaseException) -> Payload | None:
    """Return the exception as a payload if it can be loaded again; its traceback does not travel."""
    try:
        pickled = limited_pickle(exception, MAX_PICKLE)
        load((pickled,))
    except BaseException:  # its __reduce__ or __setstate__ may raise anything
        return None
    return Payload((pickled,))


def to_exception(
    failure: Failure, task_id: str = "", state: TaskState = TaskState.FAILED, cause: bool = True
) -> NblbError:
    """Return the error of errors.py that `result()` raises for a failure, with the original exception as its cause.

    With `cause=False` the original stays in its payload, so that none of the user's code is imported or run.
    """
    words = failure.message or failure.kind or "no reason was given"
    if state is TaskState.CANCELLED:
        return TaskCancelled(failure.message or f"task {task_id} was cancelled", task_id)
    if not failure.traceback:  # reported by nblb, not raised by the task
        kind = getattr(errors, failure.kind, None)
        if isinstance(kind, type) and issubclass(kind, TaskError):
            return kind(words, task_id)
        if isinstance(kind, type) and issubclass(kind, NblbError):
            return kind(words)
    if state is TaskState.LOST:
        return TaskLost(words, task_id)
    if failure.kind == NotSerializable.__name__:
        return NotSerializable(words)
    text = "\n".join([failure.traceback.rstrip() or f"{failure.kind}: {words}", *_last_words(failure)])
    error = TaskFailed(text, task_id)
    error.host, error.worker, error.attempt = failure.host, failure.worker, failure.attempt
    if failure.frames is not None:
        error.frames_json, *values = (bytes(buffer) for buffer in failure.frames.buffers)
        error.frame_values = b"".join(values)
    error.__cause__ = original_exception(failure) if cause else None
    return error


def _last_words(failure: Failure) -> list[str]:
    """Return the last lines of a traceback: the call, its place, and the innermost line of the user's own code."""
    ran = f"on {failure.host}, attempt {failure.attempt}" if failure.host else ""
    words = [" ".join(filter(None, [f"called as {failure.call}", ran]))] if failure.call else [ran] if ran else []
    if failure.where and failure.where != _last_place(failure.traceback):  # not at the traceback's end already
        words.append(f"at {failure.where}{':  ' if failure.line else ''}{failure.line}")
    return words


def _last_place(text: str) -> str:
    """Return the innermost frame of a traceback, in the form of `Failure.where`."""
    *_, (file, label, line) = _frame.findall(text) or [("", "", "")]
    return f"{label[:1].lower()}{label[1:] or Path(file).name} line {line}"


def original_exception(failure: Failure) -> BaseException | None:
    """Return the exception that the task raised, or None if it cannot be loaded here."""
    if failure.payload is None:
        return None
    try:
        original: Any = load(failure.payload.buffers)
    except KeyboardInterrupt:
        raise
    except BaseException:  # its class cannot be imported here, or raises: the text must do
        return None
    return original if isinstance(original, BaseException) else None


def not_loaded(name: str, task: str, error: BaseException) -> TaskFailed:
    """Return the error of a task whose result raises `error` when it is loaded in this process."""
    words = f"{kind_of(error)}: {text_of(error, MAX_ERROR)}"
    return TaskFailed(f"the result of {name} cannot be loaded here: {words}", task)
