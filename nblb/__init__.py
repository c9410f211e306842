"""A lab cluster that lives in a notebook: run tasks on every core and computer, watch them live, lose nothing.

Every public name is here, loaded when it is first used: `import nblb` itself loads neither ZeroMQ nor Panel nor
ipywidgets nor cloudpickle, so a notebook that only might need a cluster does not wait for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nblb._version import __version__
from nblb.system.import_hooks import when_imported

if TYPE_CHECKING:  # the same names once more, for type checkers and editors; tests/test_init.py compares
    from nblb.broker.load_balancer import LoadBalancer as LoadBalancer
    from nblb.client.cluster import Cluster as Cluster
    from nblb.client.current import attach as attach
    from nblb.client.current import executor as executor
    from nblb.client.current import jobs as jobs
    from nblb.client.current import tasks as tasks
    from nblb.client.current import users as users
    from nblb.client.debug.post_mortem import debug as debug
    from nblb.client.futures.collect import as_completed as as_completed
    from nblb.client.futures.collect import gather as gather
    from nblb.client.futures.collect import put as put
    from nblb.client.futures.collect import wait as wait
    from nblb.client.futures.task_future import TaskFuture as TaskFuture
    from nblb.client.jobs.inbox import inbox as inbox
    from nblb.client.jobs.job import Job as Job
    from nblb.client.seed_client import Client as Client
    from nblb.client.task_decorator import Task as Task
    from nblb.client.task_decorator import publish as publish
    from nblb.client.task_decorator import task as task
    from nblb.errors import DeadlineExceeded as DeadlineExceeded
    from nblb.errors import DependencyFailed as DependencyFailed
    from nblb.errors import JournalError as JournalError
    from nblb.errors import JournalFull as JournalFull
    from nblb.errors import JournalLocked as JournalLocked
    from nblb.errors import LoadBalancerUnreachable as LoadBalancerUnreachable
    from nblb.errors import NblbError as NblbError
    from nblb.errors import NoCompatibleHub as NoCompatibleHub
    from nblb.errors import NotAllowed as NotAllowed
    from nblb.errors import NotSerializable as NotSerializable
    from nblb.errors import ParametersError as ParametersError
    from nblb.errors import ProtocolError as ProtocolError
    from nblb.errors import QuotaExceeded as QuotaExceeded
    from nblb.errors import ResultExpired as ResultExpired
    from nblb.errors import TaskCancelled as TaskCancelled
    from nblb.errors import TaskError as TaskError
    from nblb.errors import TaskFailed as TaskFailed
    from nblb.errors import TaskLost as TaskLost
    from nblb.errors import TaskRejected as TaskRejected
    from nblb.errors import TaskTimeout as TaskTimeout
    from nblb.errors import TooManyQueuedTasks as TooManyQueuedTasks
    from nblb.errors import UnknownTask as UnknownTask
    from nblb.hub.worker_hub import WorkerHub as WorkerHub
    from nblb.launch import connect as connect
    from nblb.launch import start as start
    from nblb.launch import startAll as startAll
    from nblb.launch import startWorkerHub as startWorkerHub
    from nblb.launch.dashboard import dashboard as dashboard
    from nblb.monitoring.health_check import HealthCheck as HealthCheck
    from nblb.protocol.messages import TaskState as TaskState
    from nblb.task_api import checkpoint as checkpoint
    from nblb.task_api import emit as emit
    from nblb.task_api import knob as knob
    from nblb.task_api import progress as progress
    from nblb.task_api import resume as resume
    from nblb.task_api import track as track


# the module of each public name; the keys are __all__
_HOMES = {
    # a cluster
    "start": "launch",
    "connect": "launch",
    "dashboard": "launch.dashboard",
    "Cluster": "client.cluster",
    # tasks
    "task": "client.task_decorator",
    "Task": "client.task_decorator",
    "TaskFuture": "client.futures.task_future",
    "Job": "client.jobs.job",
    "TaskState": "protocol.messages",
    "publish": "client.task_decorator",
    "executor": "client.current",
    "put": "client.futures.collect",
    "as_completed": "client.futures.collect",
    "wait": "client.futures.collect",
    "gather": "client.futures.collect",
    "jobs": "client.current",
    "attach": "client.current",
    "tasks": "client.current",
    "users": "client.current",
    "inbox": "client.jobs.inbox",
    "debug": "client.debug.post_mortem",
    # inside a task
    "progress": "task_api",
    "track": "task_api",
    "emit": "task_api",
    "knob": "task_api",
    "checkpoint": "task_api",
    "resume": "task_api",
    # the names of pyLoadBalancer
    "startAll": "launch",
    "startWorkerHub": "launch",
    "LoadBalancer": "broker.load_balancer",
    "WorkerHub": "hub.worker_hub",
    "Client": "client.seed_client",
    "HealthCheck": "monitoring.health_check",
    # what can go wrong
    "NblbError": "errors",
    "ParametersError": "errors",
    "ProtocolError": "errors",
    "JournalError": "errors",
    "JournalFull": "errors",
    "JournalLocked": "errors",
    "LoadBalancerUnreachable": "errors",
    "NotAllowed": "errors",
    "NotSerializable": "errors",
    "TaskError": "errors",
    "TaskFailed": "errors",
    "TaskRejected": "errors",
    "TooManyQueuedTasks": "errors",
    "QuotaExceeded": "errors",
    "NoCompatibleHub": "errors",
    "TaskCancelled": "errors",
    "TaskTimeout": "errors",
    "TaskLost": "errors",
    "DeadlineExceeded": "errors",
    "DependencyFailed": "errors",
    "UnknownTask": "errors",
    "ResultExpired": "errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nblb' has no attribute {name!r}{_alike(name)}")
    try:
        value = getattr(import_module(f"nblb.{home}"), name)
    except (ImportError, AttributeError):
        if shadow := import_module("nblb.system.isolated_python").shadowing():
            raise import_module("nblb.errors").NblbError(shadow) from None
        raise
    globals()[name] = value  # found at once from now on
    return value


def _alike(name: str) -> str:
    from difflib import get_close_matches

    close = [] if name.startswith("_") else get_close_matches(name, __all__, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def _offer_backend(joblib: Any) -> None:
    def backend(**options: Any) -> Any:
        return import_module("nblb.client.joblib_backend").NblbBackend(**options)

    joblib.register_parallel_backend("nblb", backend)


when_imported("joblib.parallel", _offer_backend)  # joblib.parallel_config("nblb")


def load_ipython_extension(ipython: Any) -> None:
    """%load_ext nblb: registers the magics."""
    from nblb import notebook

    notebook.load_ipython_extension(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """%unload_ext nblb: takes them back; the cluster goes on."""
    from nblb import notebook

    notebook.unload_ipython_extension(ipython)
