"""Conversion of Python calls into the messages that submit them."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as replaced

from nblb import payload, task_api
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.reuse import marks, runs_of
from nblb.client.redefined import code_of, fingerprint
from nblb.client.submit.batch import MAX_CALL_BYTES, gather
from nblb.client.submit.function_cache import shelf
from nblb.client.submit.ids import new_id, record_id
from nblb.client.submit.origin import origin
from nblb.client.submit.short_call import short
from nblb.payload import Call, Packed
from nblb.protocol.equipment import checked_features, checked_needs
from nblb.protocol.exception_names import full_name
from nblb.protocol.framing import Buffer, Payload
from nblb.protocol.messages import Message, PutBlob, SubmitTask
from nblb.quantities import seconds_of
from nblb.user_text import clean_name

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

MOST_FACTOR = 100
LONGEST_S = 30 * 86_400
PYTHON = (sys.version_info[0], sys.version_info[1])


@dataclass(frozen=True)
class Options:
    """The options of a task; each is checked when it is given, so that an error points to the mistake."""

    name: str = ""
    priority: float = 0.0
    retries: int = 0
    retry_wait: float = 0.0  # seconds before the first retry
    retry_on: tuple[str, ...] = ()  # full names of exception classes; given as classes, or as texts
    timeout: float | None = None  # seconds for one call
    deadline: float | datetime | None = None  # seconds from its submission, or a time
    time: float | str | None = None  # the longest that one call takes, in seconds or as "2h"
    cache: bool = False
    job: str = ""
    engine: str = ""
    at_most_once: bool = False
    user: str = ""
    gpus: float = 0
    memory_mb: int = 0
    needs: tuple[str, ...] = ()  # features that the worker must have
    memory_retry: float = 0  # factor for the memory of the attempt after a death for memory; 0: the same again

    def __post_init__(self) -> None:
        _number(self.priority, "priority", "a finite number")
        if self.timeout is not None:
            _number(self.timeout, "timeout", "a number of seconds above 0, or None for no limit")
            if self.timeout <= 0:
                raise ValueError(f"timeout is {self.timeout!r}; it must be above 0, or None for no limit")
        if self.time is not None:
            object.__setattr__(self, "time", _time(self.time))
        if isinstance(self.retries, bool) or not isinstance(self.retries, int):
            raise TypeError(f"retries is {self.retries!r}; it must be a whole number, 0 or more")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries!r}; it must be 0 or more")
        for name in ("name", "job", "engine", "user"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {getattr(self, name)!r}; it must be a text")
            object.__setattr__(self, name, clean_name(getattr(self, name)))
        object.__setattr__(self, "needs", checked_features(self.needs))
        checked_needs(self.gpus, self.memory_mb, self.needs)
        _number(self.memory_retry, "memory_retry", "a factor such as 2")
        if self.memory_retry and not 1 < self.memory_retry <= MOST_FACTOR:
            raise ValueError(f"memory_retry is {self.memory_retry!r}; it must be above 1, or 0 for the same again")
        if self.engine not in ("", "processes"):
            raise ValueError(f"engine is {self.engine!r}; hubs run tasks on 'processes' and nothing else so far")
        if self.at_most_once and self.retries:
            raise ValueError(f"at_most_once=True and retries={self.retries} contradict each other; leave out one")
        self._check_retries()
        self._check_deadline()

    def _check_deadline(self) -> None:
        given = self.deadline
        if given is None or isinstance(given, datetime):
            return
        _number(given, "deadline", "a number of seconds above 0, a datetime, or None for no limit")
        if not 0 < given <= LONGEST_S:
            raise ValueError(f"deadline is {given!r}; it must be above 0 and at most {LONGEST_S:,} seconds")

    def _check_retries(self) -> None:
        _number(self.retry_wait, "retry_wait", "a number of seconds, 0 or more")
        if not 0 <= self.retry_wait <= LONGEST_S:
            raise ValueError(f"retry_wait is {self.retry_wait!r}; it must be 0 to {LONGEST_S:,} seconds")
        given: Any = self.retry_on
        classes = given if isinstance(given, (tuple, list)) else [given]
        names = tuple(dict.fromkeys(full_name(one) for one in classes))
        if "" in names:
            raise TypeError(f"retry_on is {given!r}; it must be an exception class such as OSError, or several")
        object.__setattr__(self, "retry_on", names)
        for name in ("retry_wait", "retry_on"):
            if getattr(self, name) and not self.retries:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} has no effect without retries; add retries=3, or leave it out"
                )

    def beyond(self, *names: str) -> list[str]:
        """The options that differ from their defaults and are not among `names`, as "retries=3"."""
        plain = Options()
        return [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name not in names and getattr(self, field.name) != getattr(plain, field.name)
        ]

    def changed(self, changes: dict[str, Any]) -> Options:
        """A copy with some options changed; an unknown name is an error that lists the known ones."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(f"{name!r} is not an option of a task; there are {', '.join(known)}")
        return replace(self, **changes)

    def given(self) -> dict[str, Any]:
        """The options that differ from the defaults."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}


def _deadline(options: Options) -> tuple[float, float]:
    """The deadline in seconds, and as a time; a time without a zone is one of this computer's zone."""
    given = options.deadline
    return (0.0, given.timestamp()) if isinstance(given, datetime) else (float(given or 0.0), 0.0)


def _time(value: Any) -> float:
    """Return the seconds of the option `time`."""
    seconds = seconds_of(value) if isinstance(value, str) else value
    _number(seconds, "time", 'a number of seconds above 0, or a text such as "2h", or None if it is not known')
    if seconds <= 0:
        raise ValueError(f"time is {value!r}; it must be above 0, or None if it is not known")
    return float(seconds)


def _number(value: Any, name: str, what: str) -> None:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r}; it must be {what}")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; it must be {what}")


# ── one call ────────────────────────────────────────────────────────────────────────────────────────────────


def submit(
    cluster: Cluster, function: Callable[..., Any], options: Options, call: Call, name: str = "", job: str = ""
) -> TaskFuture:
    """Submit one call as a single task; returns at once."""
    blob = shelf.blob(function)
    if options.cache:
        fingerprint(blob.hash, function)
    packed = payload.pack_call(*call)
    name = name or options.name or blob.name
    form = _form(blob, options, name, job, payload.numpy_needed(packed.payload.buffers, packed.constants))
    connection = cluster.connection
    if connection.is_closed:
        connection.check_open()
    said = short(*call) if form.origin and not job else ""
    if _may_go_with_others(packed, options):
        batched = gather(connection, form, blob, packed.payload.buffers[0], said)
        if batched is not None:
            batched._function = blob.hash
            return batched
    spec = _filled_in(form, new_id(), blob, packed, options)
    if said:
        spec = replaced(spec, arguments=(said,))
    future = TaskFuture(connection, spec.task, name)
    future._function = blob.hash
    if packed.holders:
        connection.send(*(holder.blob for holder in packed.holders))
    connection.submit(spec, blob, future)
    return future


def _may_go_with_others(packed: Packed, options: Options) -> bool:
    """True unless the call waits for other tasks, may be cached, or must not share the fate of its worker."""
    buffers = packed.payload.buffers
    return (
        len(buffers) == 1
        and len(buffers[0]) <= MAX_CALL_BYTES
        and not (packed.depends or packed.constants or options.cache or options.at_most_once or options.timeout)
        and not options.time
    )


_forms: dict[tuple[str, int, str, str, str, tuple[str, int, int], int], tuple[Options, SubmitTask]] = {}  # the latest
MAX_FORMS = 64


def _form(blob: PutBlob, options: Options, name: str, job: str, numpy: int = 0) -> SubmitTask:
    """The fields that all tasks of a function with the same options share, built once and copied for each task."""
    where, place = origin(), ("", 0, 0)
    if task_api.parent is not None:
        task_api.parent.submits()
        place = task_api.parent.place
    key = blob.hash, id(options), name, job, where, place, numpy
    kept = _forms.get(key)
    if kept is not None:
        return kept[1]
    deadline_s, deadline_at = _deadline(options)
    form = SubmitTask(
        task="",
        name=name,
        function=blob.hash,
        job=job,
        priority=float(options.priority),
        user=options.user,
        retries=options.retries,
        retry_wait_s=float(options.retry_wait),
        retry_on=options.retry_on,
        timeout_s=float(options.timeout or 0.0),
        deadline_s=deadline_s,
        deadline_at=deadline_at,
        time_s=float(options.time or 0.0),
        at_most_once=options.at_most_once,
        python=PYTHON,
        numpy=max(numpy, payload.numpy_needed(blob.payload.buffers[1:])),  # behind the list of modules
        origin=where,
        needs=checked_needs(options.gpus, options.memory_mb, options.needs),
        memory_retry=float(options.memory_retry),
        parent=place[0],
        parent_item=place[1],
        parent_attempt=place[2],
    )
    while len(_forms) >= MAX_FORMS:
        _forms.pop(next(iter(_forms)), None)
    _forms[key] = options, form  # keeps the options alive, so that no other object gets their id
    return form


def _filled_in(
    form: SubmitTask, task: str, blob: PutBlob, packed: Packed, options: Options, index: int = 0
) -> SubmitTask:
    needed = payload.numpy_needed(packed.payload.buffers, packed.constants)
    if needed > form.numpy:
        form = replaced(form, numpy=needed)
    if packed.items == 1 and not (packed.split or packed.depends or packed.constants or options.cache):
        return replaced(form, task=task, payload=packed.payload, index=index)
    return replaced(
        form,
        task=task,
        payload=packed.payload,
        items=packed.items,
        split=packed.split,
        index=index,
        depends=packed.depends,
        constants=packed.constants,
        cache=_cache_key(blob, packed) if options.cache else "",
    )


def _cache_key(blob: PutBlob, packed: Packed) -> str:
    return payload.content_hash([code_of(blob.hash).encode(), *_content(packed)])


def _content(packed: Packed) -> list[Buffer]:
    """The content of the arguments, including those whose name is not the hash of their content."""
    pickled, *large = packed.payload.buffers
    names = {holder.hash: holder.content for holder in packed.holders}
    for name, content in names.items():
        if name != content:
            pickled = bytes(pickled).replace(name.encode(), content.encode())
    return [pickled, *large, *(names.get(name, name).encode() for name in packed.constants)]


# ── many calls ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Many:
    """The submissions of a map, packed and ready to be sent."""

    blob: PutBlob
    records: list[Packed]
    total: int
    fingerprint: str  # of the function, then of the arguments; equal for equal sweeps; without a name, the blob's hash
    code: str = ""  # fingerprint of the function alone
    marks: str = ""  # of each item: see reuse.py
    fresh: bool = False  # True if no earlier result may be reused
    arguments: str = ""  # of the first call, in short

    def messages(self, job: str, options: Options, name: str, wanted: Sequence[bool] | None = None) -> list[SubmitTask]:
        """The submissions of the wanted items (of all items if None)."""
        specs, index, form = [], 0, _form(self.blob, options, name, job)
        if self.fresh and options.cache:
            form = replaced(form, fresh=True)
        for record in self.records:
            for first, packed in _wanted_parts(record, index, wanted):
                task = record_id(job, first, packed.items) if self.named else new_id()
                specs.append(_filled_in(form, task, self.blob, packed, options, first))
            index += record.items
        return specs

    @property
    def named(self) -> bool:
        """True if an equal sweep can be recognised by its fingerprint."""
        return self.fingerprint != self.blob.hash

    def blobs(self) -> list[Message]:
        holders = {holder.hash: holder for record in self.records for holder in record.holders}
        return [self.blob, *(holder.blob for holder in holders.values())]


def _wanted_parts(record: Packed, index: int, wanted: Sequence[bool] | None) -> Iterator[tuple[int, Packed]]:
    """(place in the job, submission) for the wanted part of a submission: all of it, none, or single items."""
    if wanted is None or all(wanted[index : index + record.items]):
        yield index, record
        return
    for offset in range(record.items):
        if wanted[index + offset]:
            yield index + offset, _part(record, offset, 1)


def pack_many(
    function: Callable[..., Any],
    arguments: Sequence[Iterator[Any]],
    kwargs: dict[str, Any],
    options: Options,
    chunksize: int | str,
    named: bool,
    steady: bool = False,
) -> Many:
    """Pack the calls of a map into submissions: one call for each tuple of positional arguments, with equal keywords.

    With `steady`, iterating over `arguments` runs no code of the caller, so an array that occurs more than once is
    known to be the same each time.

    `chunksize="auto"` makes submissions that the core cuts by the run time of their items; a number makes chunks of
    that many items, which stay together.
    """
    if chunksize != "auto" and (isinstance(chunksize, bool) or not isinstance(chunksize, int)):
        raise TypeError(f'chunksize is {chunksize!r}; it must be "auto" or a whole number, 1 or more')
    if isinstance(chunksize, int) and chunksize < 1:
        raise ValueError(f'chunksize is {chunksize}; it must be "auto" or 1 or more')
    blob = shelf.blob(function)
    code = fingerprint(blob.hash, function)
    if isinstance(chunksize, int):
        alike: payload.Alike | None = {} if steady else None
        chunks = iter(lambda: payload.take(arguments, chunksize, steady), [])
        records = [payload.pack_columns(chunk, kwargs, alike) for chunk in chunks]
    elif named or options.cache or options.at_most_once:
        # A call that is cached or may run only once must not share a pickle with others; items of a named job are
        # recognised by their pickles (reuse.py).
        alone = options.cache or options.at_most_once
        calls = ((args, kwargs) for args in zip(*arguments))  # noqa: B905  # as zip does it
        records = list(payload.pack_calls(calls, 1 if alone else payload.MAX_ITEMS, steady))
    else:
        records = list(payload.pack_map(arguments, kwargs, steady))
    told = blob.hash
    if named:
        digest = hashlib.blake2b(digest_size=16)
        for record in records:
            digest.update(payload.content_hash(_content(record)).encode())
        told = f"{code}{digest.hexdigest()}"
    return Many(blob, records, sum(record.items for record in records), told, code, marks(records) if named else "")


def give_back(values: Mapping[int, Any], job: str, options: Options, name: str) -> list[Message]:
    """The submissions of items of a job whose results (item -> value) are known already."""
    blob = shelf.blob(payload.as_it_is)
    plain = options.changed(
        {
            "cache": False,
            "timeout": None,
            "deadline": None,
            "time": None,
            "retries": 0,
            "retry_wait": 0.0,
            "retry_on": (),
            "at_most_once": False,
        }
    )
    form = _form(blob, plain, f"{name} (taken)", job)
    specs = [
        _filled_in(form, record_id(job, at, packed.items), blob, packed, plain, at) for at, packed in runs_of(values)
    ]
    return [blob, *specs] if specs else []


def _part(record: Packed, offset: int, items: int) -> Packed:
    """Some items of a submission as a submission of their own, which the core can split."""
    if items == record.items:
        return record
    if record.split:
        return record._replace(payload=record.payload.slice(offset, items), items=items)
    # A chunk is one pickle: load it, and pack these calls again. Stand-ins for futures stay unchanged.
    calls = payload.load_constant(record.payload)[offset : offset + items]
    buffers = [payload.pack_call(*call).payload for call in calls]
    if any(len(one.buffers) > 1 for one in buffers):
        return record._replace(payload=payload.pack_chunk(calls).payload, items=items)
    sizes = [one.nbytes for one in buffers]
    whole = b"".join(bytes(one.buffers[0]) for one in buffers)
    return record._replace(payload=Payload((whole,), sizes), items=items, split=True)
