"""Turns a RunTask into calls: loads blobs, applies the seed's calling form, and packs results and failures."""

from __future__ import annotations

import inspect
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from nblb import payload as packing
from nblb.errors import NotSerializable
from nblb.protocol.exception_names import is_among
from nblb.protocol.framing import IN_MEMORY, Find, Payload
from nblb.protocol.messages import Failure, HoldBlob, RunTask, TaskFinished
from nblb.user_text import text_of
from nblb.worker.channel import to_worker, unpack
from nblb.worker.result_files import HandTo

MAX_FUNCTIONS = 256  # kept loaded
LOADED_BYTES = 32 * 1024 * 1024  # blob bytes of the loaded functions, except the latest
MAX_ALIKE = 50  # failures of one kind at one line whose frames a worker keeps
MAX_VALUED = 3  # of these, those with the values of variables
VALUES_BYTES = 16 * 1024 * 1024  # bytes of values that one worker keeps in its life, since the core has them in memory
MAX_KINDS = 1000


class Blobs:
    """The blobs that the hub has sent to this worker: functions, constants, results of other tasks.

    They are kept packed and loaded again for each slice, so a task that changes an array changes only its own copy.
    That needs no copying: large buffers are copy-on-write memory shared by all workers.
    """

    def __init__(self) -> None:
        self._held: dict[str, list[tuple[bytes, int]]] = {}
        self._functions: dict[str, tuple[Callable[..., Any], packing.ModulePlacement, int]] = {}  # latest used last
        self._latest = ""
        self.find: Find | None = None  # maps parts that are in files

    def take(self, datagram: bytes, fd: int) -> HandTo | None:
        """Take a blob, or an order to drop one; return a HandTo, which is for the caller."""
        message = self._open(datagram, fd)
        if type(message) is HandTo:
            return message
        if type(message) is HoldBlob:
            self._held.setdefault(message.hash, []).append((datagram, fd))
            return None
        for _, held_fd in self._held.pop(message.hash, ()):
            if held_fd >= 0:
                os.close(held_fd)
        self._functions.pop(message.hash, None)
        if self._latest == message.hash:
            self._latest = ""
        return None

    def lack(self, run: RunTask) -> bool:
        """Return whether a blob that this slice needs is missing."""
        held = self._held
        return not (
            (run.function in held or not run.function)
            and all(blob in held for blob in run.constants)
            and all(blob in held for blob in run.depends)
        )

    def function(self, blob: str) -> tuple[Callable[..., Any], packing.ModulePlacement]:
        """Return a function and its modules, loaded once, so that caches in its globals stay."""
        if blob == self._latest:
            return self._functions[blob][:2]
        found = self._functions.pop(blob, None)
        if found is None:
            payload = self._open(*self._held[blob][0]).payload
            self._make_room(payload.nbytes)
            found = *packing.load_with_modules(payload), payload.nbytes
        self._functions[blob] = found
        self._latest = blob
        return found[:2]

    def _make_room(self, nbytes: int) -> None:
        """Drop the functions that were used longest ago, with the objects that they have captured."""
        functions = self._functions
        loaded = nbytes + sum(size for _, _, size in functions.values())
        while functions and (len(functions) >= MAX_FUNCTIONS or loaded > LOADED_BYTES):
            loaded -= functions.pop(next(iter(functions)))[2]
        self._latest = ""

    def constant(self, blob: str) -> Any:
        return packing.load_constant(self._open(*self._held[blob][0]).payload)

    def results(self, task: str) -> list[Any]:
        """Return all results of another task, in order, from one or more pieces."""
        return packing.joined_results([self._open(*held) for held in self._held[task]])

    def _open(self, datagram: bytes, fd: int) -> Any:
        return unpack(to_worker, datagram, os.dup(fd) if fd >= 0 else -1, self.find)[1]


class _Loading(dict[str, Any]):
    """A dict whose values are loaded at first access."""

    def __init__(self, load: Callable[[str], Any]) -> None:
        super().__init__()
        self._load = load

    def __missing__(self, name: str) -> Any:
        value = self[name] = self._load(name)
        return value


class Prepared:
    """The slice's function, and the arguments of its calls."""

    def __init__(
        self, run: RunTask, function: Callable[..., Any], calls: Any, call: Callable[..., Any] | None = None
    ) -> None:
        self.function = call or function
        self._run, self._function, self._calls, self._is_json = run, function, calls, call is not None

    def portion(self, offset: int) -> Iterable[packing.Call]:
        """Return the arguments of this call and of following calls; raises what loading them raises."""
        return (((), {}),) if self._is_json else self._calls.portion(offset)

    def said(self, offset: int) -> str:
        """Return the call as source text, bounded, with the arguments as they arrived, not as the call changed them."""
        try:
            args, kwargs = self._calls[offset]
            return packing.describe_call(self._function, self._run.name, args, kwargs)
        except BaseException:  # arguments that cannot be loaded or shown are the failure that is being reported
            return ""


def prepare(run: RunTask, blobs: Blobs) -> tuple[Prepared, packing.ModulePlacement]:
    """Return the slice's function and arguments, ready to be called once the function's modules are in place."""
    function, placement = blobs.function(run.function)
    return _prepared(run, blobs, function), placement


def _prepared(run: RunTask, blobs: Blobs, function: Callable[..., Any]) -> Prepared:
    if run.call != "python":
        task = json.loads(bytes(run.payload.buffers[0]))
        shown: list[Any] = [((task,), {})]
        if run.call == "seed":
            arguments = blobs.constant(run.constants[0]) if run.constants else {}
            return Prepared(run, function, shown, lambda: function(task=task, arguments=arguments))
        return Prepared(run, function, shown, lambda: _call_published(function, task))
    if run.depends or run.constants:
        return Prepared(run, function, packing.unpack_calls(run, _Loading(blobs.results), _Loading(blobs.constant)))
    return Prepared(run, function, packing.unpack_calls(run))


def _call_published(function: Callable[..., Any], task: Any) -> Any:
    """Call a function with the dict of a JSON task in the form that the function's signature allows."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function(task)
    parameters = signature.parameters.values()
    if "task" in signature.parameters or any(p.kind is p.VAR_KEYWORD for p in parameters):
        try:
            signature.bind(task=task, arguments={})
        except TypeError:
            return function(task=task)
        return function(task=task, arguments={})
    if isinstance(task, Mapping) and all(isinstance(key, str) for key in task):
        try:
            signature.bind(**task)
        except TypeError as error:
            try:
                signature.bind(task)
            except TypeError:
                raise TypeError(f"{getattr(function, '__name__', 'the function')}: {error}") from None
        else:
            return function(**task)
    return function(task)


def pack(run: RunTask, results: list[Any], failures: list[Failure], max_bytes: int) -> Payload | None:
    """Return the results as one payload; a result that cannot be packed becomes a failure of its item."""
    if run.call != "python":
        return _pack_json(results[0], failures)
    try:
        payload = packing.pack_results(results)
    except NotSerializable:
        return _pack_apart(run, results, failures, max_bytes)
    return payload if fits(payload, max_bytes) else _in_parts(results, max_bytes)


def _in_parts(results: list[Any], max_bytes: int) -> Payload:
    """Pack results that are too large for one part of a message, so that they are not lost."""
    return packing.pack_results_in_parts(results, max_bytes // 2)


def fits(payload: Payload, limit: int) -> bool:
    """Return whether a message may contain this payload: each part outside files is within the limit."""
    if payload.nbytes <= limit:
        return True
    parts = payload.parts or payload.buffers
    return all(memoryview(part).nbytes <= limit for part in parts if isinstance(part, IN_MEMORY))


def _pack_json(result: Any, failures: list[Failure]) -> Payload | None:
    try:
        return Payload((json.dumps(result, allow_nan=False, ensure_ascii=False).encode(),))
    except BaseException as error:  # a user's class may raise anything
        why = text_of(error, packing.MAX_REASON)
        words = f"the result of a task of the JSON door must be JSON, and this is not: {why}"
        failures.append(Failure(kind="NotSerializable", message=words))
        return None


def _pack_apart(run: RunTask, results: list[Any], failures: list[Failure], max_bytes: int) -> Payload | None:
    """Find the results that cannot be packed, and pack the others."""
    failed = {failure.offset for failure in failures}
    for offset, result in enumerate(results):
        if offset in failed:
            continue
        try:
            packing.pack_results([result], by_file=False)
        except NotSerializable as error:
            failures.append(Failure(offset=offset, kind="NotSerializable", message=str(error)))
            results[offset] = None
    failures.sort(key=lambda failure: failure.offset)
    if len(failures) == run.items:
        return None
    payload = packing.pack_results(results)
    return payload if fits(payload, max_bytes) else _in_parts(results, max_bytes)


def failure_of(error: BaseException, offset: int, run: RunTask, worker: str, call: str = "") -> Failure:
    """Return the Failure for an exception; nblb's own errors (an argument cannot be loaded) need no traceback."""
    failure = packing.pack_exception(error, offset, call, _wanted)
    if failure.frames is not None:
        _written[0] += failure.frames.nbytes
    return msgspec.structs.replace(
        failure,
        host=socket.gethostname(),
        worker=worker,
        attempt=run.attempt,
        retriable=bool(run.retry_on) and is_among(type(error), run.retry_on),
    )


_alike: dict[tuple[str, str], int] = {}
_written = [0]


def _wanted(kind: str, where: str) -> int | None:
    """Return the bytes of values to keep with the frames; None: no frames.

    Frames are kept for some failures of each kind only: a sweep that fails a million times must not fill the core.
    """
    if len(_alike) >= MAX_KINDS:
        _alike.clear()
    _alike[kind, where] = number = _alike.get((kind, where), 0) + 1
    if number > MAX_ALIKE:
        return None
    return packing.MAX_VALUES if number <= MAX_VALUED and _written[0] < VALUES_BYTES else 0


def nothing_emitted(run: RunTask, offset: int) -> Failure:
    """Return the failure of a call that was stopped early and had emitted nothing to keep."""
    words = f"{run.name} was stopped early, but it had emitted nothing to keep: there is no result"
    return Failure(offset=offset, kind="NothingEmitted", message=words)


def rest_failed(
    error: BaseException, run: RunTask, failures: list[Failure], begun: Iterable[int], worker: str
) -> list[Failure]:
    """Return the failures of a slice whose results are lost, with one for each item of `begun` that has none yet."""
    known = {failure.offset: failure for failure in failures}
    return [known.get(offset) or failure_of(error, offset, run, worker) for offset in begun]


def all_failed(end: TaskFinished, kind: str, words: str) -> TaskFinished:
    """Return the end without results: each item that had one fails with this message."""
    known = {failure.offset: failure for failure in end.failures}
    failures = [known.get(n) or Failure(offset=n, kind=kind, message=words) for n in range(end.items - end.left)]
    return TaskFinished(
        task=end.task,
        attempt=end.attempt,
        first=end.first,
        items=end.items,
        failures=tuple(failures),
        duration_s=end.duration_s,
        worker=end.worker,
        left=end.left,
    )
