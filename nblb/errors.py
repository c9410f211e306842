"""The exceptions of nblb, under one root, so that one `except` catches all of them.

    NblbError
    ├── ParametersError            parameters.json or an argument of a start command is wrong
    ├── ProtocolError              a peer has sent bytes that are not an nblb message
    ├── JournalError               the journal cannot be opened, read or written
    │   ├── JournalFull            no room: no new task is accepted, running tasks go on
    │   └── JournalLocked          another core uses this state folder
    ├── LoadBalancerUnreachable    (ConnectionError)  no core answers
    ├── NotAllowed                 the user has no permission
    ├── NotSerializable            (TypeError, pickle.PicklingError)  a function, argument or result cannot be pickled
    └── TaskError                  carries task_id
        ├── TaskFailed             the task raised; the message is its remote traceback
        ├── TaskRejected           the core did not accept the task
        │   ├── TooManyQueuedTasks a limit of this user is reached
        │   └── NoCompatibleHub    no hub can run it (version of Python, NumPy 1 or 2)
        ├── TaskCancelled          (concurrent.futures.CancelledError)
        ├── TaskTimeout            (TimeoutError)  ran longer than its timeout
        ├── TaskLost               its workers died, or it could not be run a second time
        ├── DeadlineExceeded       (TimeoutError)  had not ended by its deadline
        ├── DependencyFailed       a task whose result this one needs did not succeed
        ├── UnknownTask            the core does not know this id
        └── ResultExpired          the result was dropped, because its time to live is over

The rule: a message is one sentence that says what was wrong, where, and what to do.
"""

from __future__ import annotations

import concurrent.futures
import json
import pickle
from typing import Any

__all__ = [
    "DeadlineExceeded",
    "DependencyFailed",
    "JournalError",
    "JournalFull",
    "JournalLocked",
    "LoadBalancerUnreachable",
    "NblbError",
    "NoCompatibleHub",
    "NotAllowed",
    "NotSerializable",
    "ParametersError",
    "ProtocolError",
    "ResultExpired",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskRejected",
    "TaskTimeout",
    "TooManyQueuedTasks",
    "UnknownTask",
]


class NblbError(Exception):
    """The base class of all errors that nblb raises on purpose.

    Examples
    --------
    >>> try:
    ...     simulate.submit(3).result()
    ... except lb.NblbError as error:
    ...     print(error)
    """


class ParametersError(NblbError, ValueError):
    """A parameters file, a key or a value is wrong; the message names the file, the key and the allowed values.

    Examples
    --------
    >>> try:
    ...     lb.start({"LB_PORT": 1})
    ... except lb.ParametersError as error:
    ...     print(error)
    """


class ProtocolError(NblbError):
    """A peer has sent bytes that are not an nblb message; the receiver drops them and goes on.

    Examples
    --------
    >>> try:
    ...     cluster.status()
    ... except lb.ProtocolError as error:
    ...     print(error)
    """


class JournalError(NblbError):
    """The journal cannot be opened, read or written.

    Examples
    --------
    >>> try:
    ...     lb.start("parameters.json")
    ... except lb.JournalError as error:
    ...     print(error)
    """


class JournalFull(JournalError):
    """The disk of the journal is full; no new task is accepted until there is room.

    Examples
    --------
    >>> try:
    ...     lb.start("parameters.json")
    ... except lb.JournalFull as error:
    ...     print(error)
    """


class JournalLocked(JournalError):
    """Another core already uses this state folder; the message names its process.

    Examples
    --------
    >>> try:
    ...     lb.LoadBalancer("parameters.json")
    ... except lb.JournalLocked as error:
    ...     print(error)
    """


class LoadBalancerUnreachable(NblbError, ConnectionError):
    """No core answers at the address in the parameters.

    Examples
    --------
    >>> try:
    ...     lb.connect("parameters.json")
    ... except lb.LoadBalancerUnreachable as error:
    ...     print(error)
    """


class NotAllowed(NblbError, PermissionError):
    """The user of this connection has no permission for the request.

    Examples
    --------
    >>> try:
    ...     simulate.options(user="anna").submit(3)
    ... except lb.NotAllowed as error:
    ...     print(error)
    """


class NotSerializable(NblbError, TypeError, pickle.PicklingError):
    """A function, argument or result cannot be pickled; the message names the part by its path.

    Examples
    --------
    >>> try:
    ...     simulate.submit(open("data.csv"))
    ... except lb.NotSerializable as error:
    ...     print(error)
    """


class TaskError(NblbError):
    """An error about one task, whose id is `task_id`.

    Parameters
    ----------
    message
        What is wrong, in a sentence.
    task_id
        The id of the task.

    Examples
    --------
    >>> try:
    ...     future.result()
    ... except lb.TaskError as error:
    ...     print(error.task_id)
    """

    def __init__(self, message: str = "", task_id: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.task_id)


class TaskFailed(TaskError):
    """The task raised; the message is the remote traceback, `__cause__` the original exception if it can be loaded.

    `host`, `worker` and `attempt` identify the run that failed; `frames` is for lb.debug.

    Examples
    --------
    >>> try:
    ...     future.result()
    ... except lb.TaskFailed as error:
    ...     print(error)
    """

    host = ""
    worker = ""
    attempt = 0
    frames_json = b""
    frame_values = b""  # pickles; only lb.debug loads them, when the user asks for a value

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames of your own code, the outermost first: function, file, line, source, locals (as reprs)."""
        found: list[dict[str, Any]] = json.loads(self.frames_json) if self.frames_json else []
        return found

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.task_id), {**self.__dict__}


class TaskRejected(TaskError):
    """The core refused the task and keeps nothing of it.

    Examples
    --------
    >>> try:
    ...     simulate.submit(3).result()
    ... except lb.TaskRejected as error:
    ...     print(error)
    """


class TooManyQueuedTasks(TaskRejected):
    """A limit of the user is reached; tasks submitted from Python beyond LB_QUEING_MAXPERUSER wait instead.

    Examples
    --------
    >>> try:
    ...     simulate.submit(3).result()
    ... except lb.TooManyQueuedTasks as error:
    ...     print(error)
    """


class QuotaExceeded(TaskRejected):
    """The user, or the user's group, may store no more bytes; the message says which limit it is and until when.

    Examples
    --------
    >>> try:
    ...     simulate.submit(3).result()
    ... except lb.QuotaExceeded as error:
    ...     print(error)
    """


class NoCompatibleHub(TaskRejected):
    """No hub can run the task: all have another version of Python, or NumPy 1 where the data need NumPy 2.

    Examples
    --------
    >>> try:
    ...     simulate.submit(3).result()
    ... except lb.NoCompatibleHub as error:
    ...     print(error)
    """


class TaskCancelled(TaskError, concurrent.futures.CancelledError):
    """The task was cancelled before it had a result.

    Examples
    --------
    >>> try:
    ...     future.result()
    ... except lb.TaskCancelled as error:
    ...     print(error)
    """


class TaskTimeout(TaskError, TimeoutError):
    """The task ran longer than its `timeout` and was stopped.

    Examples
    --------
    >>> try:
    ...     simulate.options(timeout=1).submit(3).result()
    ... except lb.TaskTimeout as error:
    ...     print(error)
    """


class DeadlineExceeded(TaskError, TimeoutError):
    """The task had not ended by its `deadline`; it was stopped, or never began.

    Examples
    --------
    >>> try:
    ...     simulate.options(deadline=60).submit(3).result()
    ... except lb.DeadlineExceeded as error:
    ...     print(error)
    """


class TaskLost(TaskError):
    """No result will come, because the workers that ran the task died; the message has the reasons.

    Examples
    --------
    >>> try:
    ...     future.result()
    ... except lb.TaskLost as error:
    ...     print(error)
    """


class DependencyFailed(TaskError):
    """A task whose result this one takes as an argument did not succeed.

    Examples
    --------
    >>> try:
    ...     combine.submit(future).result()
    ... except lb.DependencyFailed as error:
    ...     print(error)
    """


class UnknownTask(TaskError, KeyError):
    """The core knows no task of this id.

    Examples
    --------
    >>> try:
    ...     lb.attach("sweep")
    ... except lb.UnknownTask as error:
    ...     print(error)
    """

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0]) if self.args else ""


class ResultExpired(TaskError):
    """The result was dropped because its time to live (LB_RESULT_TTL_S or LB_JOB_TTL_S) is over.

    The core keeps the ids of the latest 10,000 such tasks until it is restarted; older ones raise UnknownTask.

    Examples
    --------
    >>> try:
    ...     lb.attach("sweep")
    ... except lb.ResultExpired as error:
    ...     print(error)
    """
