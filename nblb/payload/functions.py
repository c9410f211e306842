"""A function as a blob that hubs store under its content hash.

The blob is JSON with the source texts of the function's cells and files, then the function's pickle. The texts let a
traceback made on another machine show the lines of the notebook's cell. `fingerprint` identifies what a function
*does*: unlike the blob's own hash, it survives a restart of the kernel and changes of blank lines and comments.
"""

from __future__ import annotations

import hashlib
import io
import linecache
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from nblb.errors import NotSerializable
from nblb.payload.calls import Given
from nblb.payload.explain import MAX_REASON, explain_unpicklable, leave_out
from nblb.payload.modules import ModulePlacement, placed_while_loaded
from nblb.payload.pickling import Pickler, dump, load, reduced_code
from nblb.payload.reach import Reach
from nblb.protocol.blob_names import blob_name
from nblb.protocol.framing import Buffer, Part, Payload
from nblb.user_text import text_of

MAX_SOURCE = 256 * 1024

_ipython_cell = re.compile(r"<ipython-input-(\d+)-")
_random_id = re.compile(r"[0-9a-f]{32}")
_labels: dict[str, str] = {}  # file name of a code object -> its label for users: 'Cell In[7]'


def dump_function(
    function: Callable[..., Any], by_content: bool = False, reach: Reach | None = None
) -> tuple[str, Payload]:
    """Return the name of a function (see `blob_name`) and its blob.

    Parameters
    ----------
    function
        Any callable.
    by_content
        Name it by the hash of its content, whatever its size.
    reach
        The members of the project's modules that it needs, if they are known already.

    Raises
    ------
    NotSerializable
        A captured value or a module's member cannot be pickled; the message names it.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        buffers, pickler = _dumped(function, reach, f"function {name}")
    except NotSerializable:
        raise
    except Exception as error:
        why = explain_unpicklable(function, f"function {name}")
        raise NotSerializable(why or f"function {name} cannot be pickled: {text_of(error, MAX_REASON)}") from error
    notes = msgspec.json.encode(_sources(pickler.code))
    whole = [notes, *buffers]
    return blob_name(whole, by_content), Payload.of(whole)


def _dumped(function: Callable[..., Any], reach: Reach | None, what: str) -> tuple[list[Buffer | Part], Pickler]:
    """Return the pickle, without the members of modules that cannot be pickled and are not required."""
    try:
        return dump(function, reach=reach)
    except Exception:
        reach = Reach(function) if reach is None else reach
        if not leave_out(reach, what):
            raise
    return dump(function, reach=reach)


def load_function(payload: Payload) -> Callable[..., Any]:
    """Load the function of a blob; from now on, tracebacks in this process show its source lines."""
    for filename, (label, source) in msgspec.json.decode(payload.buffers[0]).items():
        if label:
            _labels[filename] = label
        if source and not Path(filename).exists():
            # No time stamp, so that linecache never drops it.
            linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    function: Callable[..., Any] = load(payload.buffers[1:])
    return function


def load_with_modules(payload: Payload) -> tuple[Callable[..., Any], ModulePlacement]:
    """Return the function of a blob, and the project's modules that came with it, which are placed while it runs."""
    with placed_while_loaded() as placement:
        return load_function(payload), placement


def _sources(codes: Iterable[types.CodeType]) -> dict[str, tuple[str, str]]:
    """Return the label and the text of each file that the code came from."""
    found = {}
    for filename in sorted({code.co_filename for code in codes}):
        linecache.checkcache(filename)  # get the current text of a file that was edited and reloaded
        source = "".join(linecache.getlines(filename))
        label = cell_label(filename)
        if label or (source and len(source) <= MAX_SOURCE):
            found[filename] = (label, source if len(source) <= MAX_SOURCE else "")
    return found


def cell_label(filename: str) -> str:
    """Return 'Cell In[7]' if this is the file name of a notebook's cell, else ''."""
    if filename in _labels:
        return _labels[filename]
    typed = _ipython_cell.match(filename)
    if typed:
        return f"Cell In[{typed[1]}]"
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    name_of = getattr(getattr(shell, "compile", None), "format_code_name", None)
    named = name_of(filename) if name_of is not None else None
    return " ".join(named) if named else ""


def fingerprint(function: Callable[..., Any]) -> str:
    """Return 32 hex digits that change only with the function's code or a value that it captures."""
    reach: Reach | None = None
    while True:
        file, before = _Digest(), reach.size if reach is not None else 0
        pickler = _Normalized(file, reach=reach)
        try:
            pickler.dump(function)
        except Exception:
            if reach is not None and not leave_out(reach, "the function"):
                raise
            reach = reach or Reach(function)
            continue
        if reach is None or reach.size == before:
            break
    for buffer in pickler.large:
        file.digest.update(memoryview(buffer))
    return file.digest.hexdigest()


class _Digest(io.BytesIO):
    """A file that keeps only the hash of the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.blake2b(digest_size=16)

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.digest.update(view)
        return view.nbytes


class _Normalized(Pickler):
    """Writes pickles only to hash them, without the details that vary while the function does the same."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is types.CodeType:
            return reduced_code(_without_places(obj))
        if hasattr(type(obj), "__nblb_function__"):  # a task: its options do not change what it does
            return Given(obj.__nblb_function__).__reduce__()
        reduced = super().reducer_override(obj)
        if isinstance(obj, (type, typing.TypeVar)) and isinstance(reduced, tuple):
            # cloudpickle gives each class defined in a cell a random id.
            rebuild, args, *rest = reduced
            args = tuple("" if isinstance(a, str) and _random_id.fullmatch(a) else a for a in args)
            return (rebuild, args, *rest)
        return reduced


def _without_places(code: types.CodeType) -> types.CodeType:
    """Return the code without its file and lines, and with the sets among its constants in a fixed order."""
    constants = tuple(
        tuple(sorted(map(repr, constant))) if isinstance(constant, frozenset) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename="", co_firstlineno=1, co_linetable=b"", co_consts=constants)
