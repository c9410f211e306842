"""Arguments and results as payloads.

The payload of a submission is one of three (columns.py and many.py make those of many calls):

- one pickle of `(args, kwargs)`, with large buffers behind it: a single call;
- one buffer with `sizes`: a pickle of `(args, kwargs)` for each item, so that the core can cut it by length alone; or
  a pickle of Columns for each PIECE items, of which the core sends all that overlap a slice;
- one pickle of Columns, or of a list of `(args, kwargs)`: a chunk that is never cut (an explicit chunksize).

A future among the arguments travels as Input, a handle of `lb.put` as Constant, at any depth in lists, dicts or other
objects; `unpack_calls` puts the values in their place while it unpickles.

A payload of results is one pickle of the list of them.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

from nblb.errors import NotSerializable
from nblb.payload.array_needs import note_constant
from nblb.payload.columns import Call, Columns
from nblb.payload.explain import MAX_REASON, explain_unpicklable
from nblb.payload.pickling import dump, dump_arguments, load, not_found
from nblb.payload.salvage import NotLoaded, salvage
from nblb.protocol.blob_names import blob_name
from nblb.protocol.framing import PIECE, Buffer, Payload
from nblb.protocol.messages import HoldBlob, RunTask
from nblb.user_text import text_of


class Packed(NamedTuple):
    """The parts of a SubmitTask that carry its calls: the payload, and the inputs and constants that they wait for."""

    payload: Payload
    items: int = 1
    split: bool = False
    depends: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    holders: tuple[Any, ...] = ()  # the handles of the constants, kept alive until the blobs are sent


class _StandIns(threading.local):
    """The values that replace stand-ins while this thread unpickles."""

    inputs: Mapping[str, Sequence[Any]] | None = None
    constants: Mapping[str, Any] | None = None


_values = _StandIns()


class Input:
    """Stands for the result of item `item` of submission `task`, or for all its results if `item` is None."""

    __slots__ = ("item", "task")

    def __init__(self, task: str, item: int | None = 0) -> None:
        self.task, self.item = task, item

    def __reduce__(self) -> tuple[Any, ...]:
        return _input, (self.task, self.item)

    def __repr__(self) -> str:
        return f"Input({self.task!r}, {self.item!r})"


class Inputs:
    """Stands for the results of several submissions, one after another: a whole job."""

    __slots__ = ("tasks",)

    def __init__(self, tasks: Iterable[str]) -> None:
        self.tasks = tuple(tasks)

    def __reduce__(self) -> tuple[Any, ...]:
        return _inputs, self.tasks

    def __repr__(self) -> str:
        return f"Inputs({self.tasks!r})"


class Constant:
    """Stands for the value of a blob that hubs store under its content hash; `holder` is the handle of the blob."""

    __slots__ = ("hash", "holder")

    def __init__(self, blob: str, holder: Any = None) -> None:
        self.hash, self.holder = blob, holder

    def __reduce__(self) -> tuple[Any, ...]:
        return _constant, (self.hash,)

    def __repr__(self) -> str:
        return f"Constant({self.hash!r})"


class Given:
    """Carries the value itself, because the core may no longer have it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _given, (self.value,)


def _given(value: Any) -> Any:
    return value


def as_it_is(value: Any) -> Any:
    """Return the value: the function of a task whose result is already known."""
    return value


def _input(task: str, item: int | None) -> Any:
    if _values.inputs is None:
        return Input(task, item)
    results = _values.inputs[task]
    return _loaded(results) if item is None else _loaded((results[item],))[0]


def _inputs(*tasks: str) -> Any:
    if _values.inputs is None:
        return Inputs(tasks)
    return [result for task in tasks for result in _loaded(_values.inputs[task])]


def _constant(blob: str) -> Any:
    return Constant(blob) if _values.constants is None else _values.constants[blob]


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────


def pack_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Packed:
    """Pack one call as a submission of its own."""
    call = (args if type(args) is tuple else tuple(args), kwargs if type(kwargs) is dict else dict(kwargs))
    try:
        buffers, stand_ins = dump_arguments(call)
    except Exception as error:
        raise cannot_pickle(call, error) from error
    if not stand_ins:
        return Packed(Payload.of(buffers))
    return Packed(Payload.of(buffers), 1, False, *needs(stand_ins))


def needs(stand_ins: Iterable[Any]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Any, ...]]:
    """Return the submissions and constants of these stand-ins, each once and in order, and the constants' holders."""
    depends: dict[str, None] = {}
    constants: dict[str, Any] = {}
    for stand_in in stand_ins:
        if isinstance(stand_in, Constant):
            constants[stand_in.hash] = stand_in.holder
        elif isinstance(stand_in, Input):
            depends[stand_in.task] = None
        elif isinstance(stand_in, Inputs):
            depends.update(dict.fromkeys(stand_in.tasks))
    return tuple(depends), tuple(constants), tuple(holder for holder in constants.values() if holder is not None)


def cannot_pickle(call: Call, error: Exception) -> NotSerializable:
    """Return the error that names the argument that cannot be pickled, and the part to blame."""
    args, kwargs = call
    named = [(f"argument {number}", value) for number, value in enumerate(args, 1)]
    for name, value in [*named, *((f"argument {key!r}", value) for key, value in kwargs.items())]:
        why = explain_unpicklable(value, name, arguments=True)
        if why:
            return NotSerializable(why)
    return NotSerializable(f"the arguments cannot be pickled: {text_of(error, MAX_REASON)}")


# ── unpacking in a worker ───────────────────────────────────────────────────────────────────────────────────


class Calls(Sequence[Call]):
    """The calls of a slice; each is unpickled on access, so that one that cannot be unpickled affects no other."""

    def __init__(
        self,
        run: RunTask,
        inputs: Mapping[str, Sequence[Any]] | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        self._whole, self._count = run.payload, run.items
        self._items: list[memoryview] | None = run.payload.items() if run.payload.sizes else None
        self._first = run.first  # a chunk is one pickle of all calls of its submission
        self._inputs, self._constants = inputs, constants
        self._broken: BaseException | None = None
        self._opened: tuple[int, Any] | None = None  # number and contents of the latest pickle of several calls

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        calls, at, _ = self._piece(index)
        return calls[at]

    def portion(self, index: int) -> Iterable[Call]:
        """Return this call and all loadable calls right behind it; raise the error if this one cannot be loaded."""
        if self._broken is not None:
            error, self._broken = self._broken, None
            raise error
        calls, at, last = self._piece(index)
        if type(calls) is Columns:
            return zip(calls.rows(at, last), repeat(calls.kwargs))
        return chain((calls[at],), self._each(index + 1))

    def _each(self, index: int) -> Iterator[Call]:
        """Yield the calls from this one on, up to one that cannot be loaded; `portion` of that one raises its error."""
        try:
            if self._items is None:
                yield from self._opened[1][self._first + index : self._first + self._count]  # type: ignore[index]
            elif self._inputs is None and self._constants is None:
                yield from map(pickle.loads, self._items[index:])
            else:
                yield from (self._load((item,)) for item in self._items[index:])
        except BaseException as error:
            self._broken = not_found(error) if isinstance(error, ModuleNotFoundError) else error

    def _piece(self, index: int) -> tuple[Any, int, int]:
        """Return the calls pickled together with this one, its index among them, and the index where the slice ends."""
        if not 0 <= index < self._count:  # checked here, since a user's class may raise IndexError, too
            raise IndexError(index)
        items = self._items
        if items is None:
            return self._open(0, self._whole.buffers), self._first + index, self._first + self._count
        if len(items) == self._count and self._opened is None:  # almost always one item per pickle
            call = self._load((items[index],))
            if type(call) is not Columns:
                return (call,), 0, 1
        skipped = self._first % PIECE
        number, at = divmod(skipped + index, PIECE)
        return self._open(number, (items[number],)), at, min(PIECE, skipped + self._count - number * PIECE)

    def _open(self, number: int, buffers: Sequence[Buffer]) -> Any:
        """Return the calls in one pickle; the latest is kept."""
        if self._opened is None or self._opened[0] != number:
            found = self._load(buffers)
            self._opened = number, found if isinstance(found, (Columns, list)) else [found]
        return self._opened[1]

    def _load(self, buffers: Sequence[Buffer]) -> Any:
        _values.inputs, _values.constants = self._inputs, self._constants
        try:
            return load(buffers)
        finally:
            _values.inputs = _values.constants = None


def unpack_calls(
    run: RunTask, inputs: Mapping[str, Sequence[Any]] | None = None, constants: Mapping[str, Any] | None = None
) -> Calls:
    """Return the calls of a slice, to be used as `for i in range(len(calls)): args, kwargs = calls[i]`.

    `inputs` maps the ids of submissions to the lists of their results (`unpack_results` of a HoldBlob's payload),
    `constants` maps content hashes to values (`load_constant`). Without them the stand-ins are left as Input and
    Constant objects, which `resolve` can replace.
    """
    return Calls(run, inputs, constants)


def resolve(value: Any, inputs: Mapping[str, Sequence[Any]], constants: Mapping[str, Any]) -> Any:
    """Return `value` with the stand-ins in its tuples, lists and dicts replaced by their values."""
    if isinstance(value, Input):
        results = inputs[value.task]
        return _loaded(results) if value.item is None else _loaded((results[value.item],))[0]
    if isinstance(value, Inputs):
        return [result for task in value.tasks for result in _loaded(inputs[task])]
    if isinstance(value, Constant):
        return constants[value.hash]
    if type(value) in (list, tuple):
        return type(value)(resolve(part, inputs, constants) for part in value)
    if type(value) is dict:
        return {key: resolve(part, inputs, constants) for key, part in value.items()}
    return value


def _loaded(results: Sequence[Any]) -> list[Any]:
    """Return the results of a task, unless loading one of them has raised."""
    for result in results:
        if isinstance(result, NotLoaded):
            raise result.error
    return list(results)


# ── results and constants ───────────────────────────────────────────────────────────────────────────────────


def pack_results(results: Sequence[Any], by_file: bool = True) -> Payload:
    """Return one pickle of the list of a slice's results.

    Raises
    ------
    NotSerializable
        Names the result, and the part of it, that cannot be pickled.
    """
    try:
        buffers, _ = dump(list(results), by_file=by_file)
    except BaseException as error:  # a user's __reduce__ may raise anything, SystemExit and KeyboardInterrupt included
        for number, result in enumerate(results):
            why = explain_unpicklable(result, "result" if len(results) == 1 else f"result {number}")
            if why:
                raise NotSerializable(why) from error
        raise NotSerializable(f"the result cannot be pickled: {text_of(error, MAX_REASON)}") from error
    return Payload.of(buffers)


class _SplitResult:
    """One result as buffers of a bounded size, so that a message can carry a result of any size."""

    def __init__(self, result: Any, most: int) -> None:
        buffers, _ = dump([result], by_file=False)
        self._cuts: list[list[pickle.PickleBuffer]] = []
        for buffer in buffers:
            view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # all are in memory
            cuts = range(0, max(1, view.nbytes), most)
            # Copied, as Python 3.11 can crash if the garbage collector meets memory views while they are pickled.
            self._cuts.append([pickle.PickleBuffer(bytes(view[at : at + most])) for at in cuts])

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_parts, tuple(self._cuts)


def _from_parts(*cuts: Sequence[Buffer]) -> Any:
    (result,) = load([b"".join(parts) for parts in cuts])
    return result


def pack_results_in_parts(results: Sequence[Any], most: int) -> Payload:
    """Return the same as `pack_results`, in buffers of at most `most` bytes each, plus pickle's overhead.

    Raises
    ------
    NotSerializable
        Names the result, and the part of it, that cannot be pickled.
    """
    try:
        return pack_results([_SplitResult(result, most) for result in results])
    except NotSerializable:
        raise
    except Exception:
        return pack_results(results)  # its error names the result


def unpack_results(payload: Payload) -> list[Any]:
    """Return the results of a slice."""
    results: list[Any] = load(payload.buffers)
    return results


def unpack_each_result(payload: Payload) -> tuple[list[Any], bool]:
    """Return the results of a slice, and whether all could be loaded; a NotLoaded replaces each that could not."""
    try:
        return unpack_results(payload), True
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's class raises
        return _salvaged(payload, error), False


def _salvaged(payload: Payload, error: BaseException) -> list[Any]:
    """Return what can be loaded of results of which one has raised `error`; raise that if nothing can."""
    try:
        results = salvage(payload.buffers)
    except KeyboardInterrupt:
        raise
    except BaseException:
        raise error from None
    for result in results:
        if isinstance(result, NotLoaded) and isinstance(result.error, ModuleNotFoundError):
            result.error = not_found(result.error)
    return results


def dump_constant(value: Any) -> tuple[str, Payload]:
    """Return the content hash and the pickle of a value that many tasks share."""
    try:
        buffers, _ = dump(value)
    except Exception as error:
        raise NotSerializable(
            explain_unpicklable(value, "constant") or f"it cannot be pickled: {text_of(error, MAX_REASON)}"
        ) from error
    name = blob_name(buffers)
    note_constant(name, buffers)
    return name, Payload.of(buffers)


def load_constant(payload: Payload) -> Any:
    return load(payload.buffers)


def joined_results(pieces: Sequence[HoldBlob]) -> list[Any]:
    """Return all results of a submission in order, joined from the arrived pieces; or the one that was requested."""
    found: list[Any] = [None] * max(piece.total for piece in pieces)
    for piece in pieces:
        holes = frozenset(piece.holes)
        for offset, result in enumerate(unpack_each_result(piece.payload)[0]):
            if offset not in holes and 0 <= piece.first + offset < len(found):
                found[piece.first + offset] = result
    return found
