"""The processes of a cluster: core, hub, Health Check and Monitor, each in the foreground of its own process.

Here, and only here, signals are handled: SIGTERM and SIGINT end a role in good order.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from nblb.cli.command import Commands, add, count
from nblb.errors import NblbError
from nblb.launch.notes import settings_of
from nblb.launch.presence import RoleLock
from nblb.launch.roles import LONE
from nblb.parameters import load
from nblb.system.private_folder import runtime_folder

if TYPE_CHECKING:
    from nblb.parameters import Parameters
    from nblb.protocol.framing import Payload

LOG_BYTES = 8 * 1024 * 1024
WATCH_S = 1.0
CORE_GONE_S = 5.0  # Health Check and Monitor outlive a core that has said goodbye by this much


def register(commands: Commands) -> None:
    command = add(commands, "core", core, "run the Load Balancer in the foreground")
    add_presence(command)
    command = add(commands, "hub", hub, "run a hub of workers in the foreground")
    add_presence(command)
    command.add_argument(
        "--workers", type=count, metavar="N", help="workers in all, shared by the groups of WKHUB_WORKERS in proportion"
    )
    command.add_argument("--tasks", metavar="FILE", help=argparse.SUPPRESS)
    command = add(commands, "monitor", monitor, "serve the Monitor page in the foreground")
    add_presence(command)
    command.add_argument("--address", help="instead of MONITOR_IP")
    command.add_argument("--port", type=count, help="instead of MONITOR_PORT; 0 is any free one")
    command.add_argument("--prefix", default="", help="path in front of the page, behind a proxy")
    command.add_argument("--allow-websocket-origin", action="append", default=[], metavar="HOST")


def add_presence(command: argparse.ArgumentParser) -> None:
    """How a starter hands over the lock that says that the process lives."""
    command.add_argument("--presence", nargs=2, metavar=("FD", "FILE"), help=argparse.SUPPRESS)


def core(options: argparse.Namespace) -> int:
    """Run the Load Balancer until SIGTERM, Ctrl-C or `nblb stop`."""
    from nblb.broker.load_balancer import LoadBalancer

    parameters = load(options.parameters)
    balancer = LoadBalancer(parameters)
    _collect_less_often()
    with _role(options, parameters, "core", balancer.stop):
        balancer.startLB()
    return 0


def hub(options: argparse.Namespace) -> int:
    """Run a hub of workers until SIGTERM, Ctrl-C, or the core's word to stop."""
    from nblb.hub.worker_hub import WorkerHub
    from nblb.system import child_processes

    parameters = load(options.parameters)
    worker_hub = WorkerHub(parameters, options.workers)
    for name, function in _functions(options.tasks).items():
        worker_hub.add_packed(name, function)
    _collect_less_often()
    child_processes.adopt()
    with _role(options, parameters, "hub", worker_hub.stop):
        worker_hub.run()
    return 0


def _collect_less_often() -> None:
    """A process that holds a million tasks gains nothing from looking for cycles at every 700th object."""
    gc.set_threshold(50_000, 20, 100)


def health(options: argparse.Namespace) -> int:
    """Check core and hubs again and again, and print what is wrong."""
    from nblb.monitoring.health_check import HealthCheck

    parameters = load(options.parameters)
    check = HealthCheck(parameters)
    with _role(options, parameters, "health", check.stop) as presence:
        _end_with_core(parameters, check.stop, bool(options.presence))
        check.doHealthCheckTasks()
        presence.say(checked=True)
        check.startHC()
    return 0


def monitor(options: argparse.Namespace) -> int:
    """Serve the Monitor page until SIGTERM or Ctrl-C."""
    parameters = load(options.parameters)

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # the server has its own handler by then

    def ready(url: str) -> None:
        presence.say(url=url)
        print(f"Monitor on {url}", flush=True)

    with _role(options, parameters, "monitor", lambda: sys.exit(0)) as presence:
        from nblb.monitoring.monitor import serve

        _end_with_core(parameters, stop, bool(options.presence))
        serve(
            parameters,
            address=options.address,
            port=options.port,
            prefix=options.prefix,
            allow_websocket_origin=options.allow_websocket_origin,
            ready=ready,
        )
    return 0


@contextlib.contextmanager
def _role(
    options: argparse.Namespace, parameters: Parameters, role: str, stop: Callable[[], object]
) -> Iterator[RoleLock]:
    """What every role does: says that it is here, ends in good order on a signal, and bounds its log."""
    presence = RoleLock(runtime_folder(parameters), role, alone=role in LONE)
    if options.presence:
        presence.adopt(int(options.presence[0]), Path(options.presence[1]))
    elif not presence.take():
        raise NblbError(f"the {role} of '{parameters.name}' runs already ({presence.path})")

    presence.say(settings=settings_of(role, parameters))

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    threading.Thread(target=_bound_log, name="nblb-log", daemon=True).start()
    try:
        yield presence
    finally:
        presence.leave()


def _bound_log() -> None:
    """Sets the log aside when it has grown long; nothing to do on a terminal or a pipe."""
    pause = threading.Event()
    while stat.S_ISREG(os.fstat(1).st_mode):
        if os.fstat(1).st_size > LOG_BYTES:
            with contextlib.suppress(OSError):  # only where there is /proc
                log = Path("/proc/self/fd/1").readlink()
                log.with_suffix(".log.1").write_bytes(log.read_bytes()[-LOG_BYTES:])
            os.ftruncate(1, 0)  # it is open for appending: the next line goes to the start
        pause.wait(30)


def _end_with_core(parameters: Parameters, stop: Callable[[], object], was_there: bool) -> None:
    """Stops a companion of the core when the core has ended on purpose, which removes core.json.

    `was_there`: the core had been seen by who started this process, even if it is gone by now.
    """

    def watch() -> None:
        pause, seen, gone_s = threading.Event(), was_there, 0.0
        while gone_s < CORE_GONE_S:
            there = parameters.connection_file.exists()
            seen |= there
            gone_s = gone_s + WATCH_S if seen and not there else 0.0
            pause.wait(WATCH_S)
        stop()

    threading.Thread(target=watch, name="nblb-watch-core", daemon=True).start()


def _functions(path: str | None) -> dict[str, Payload]:
    """The functions that startWorkerHub handed over, still packed; the file has done its work then."""
    if path is None:
        return {}
    import msgspec

    from nblb.protocol.framing import Payload

    file = Path(path)
    packed = msgspec.msgpack.decode(file.read_bytes(), type=dict[str, bytes])
    file.unlink()
    return {name: Payload.frombytes(stored) for name, stored in packed.items()}
