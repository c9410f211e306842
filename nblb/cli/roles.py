"""The processes of a cluster: core, hub, Health Check and Monitor, each in the foreground of its own process.

Only this module handles signals: SIGTERM and SIGINT end a role in good order.
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

from nblb.access.monitor_key import renew_monitor_key
from nblb.access.monitor_token import MONITOR_ROLES
from nblb.cli.command import Commands, add, at_least_one, count, duration, json_object, lifetime, settings, users
from nblb.errors import NblbError, NotAllowed
from nblb.launch.monitor_links import LINK_S, LOGIN_S, link_for
from nblb.launch.notes import settings_of
from nblb.launch.presence import RoleLock
from nblb.launch.roles import LONE
from nblb.parameters import BatchOptions, load
from nblb.system import isolated_python
from nblb.system.core_file import find_core_file
from nblb.system.private_folder import runtime_folder, with_connection
from nblb.system.state_mark import claim
from nblb.system.threads import start_thread

if TYPE_CHECKING:
    from nblb.parameters import Parameters
    from nblb.protocol.framing import Payload

LOG_BYTES = 8 * 1024 * 1024
WATCH_S = 1.0
MISSED = 2  # looks in succession at which a file is missing: the first time, its folder may be about to be removed
MOST_OTHERS = 3  # looks at a file that another process has locked; a mere reader locks it for a moment, too
HOST_AGAIN_S = 15.0  # between two attempts to reach a computer of WKHUB_HOSTS
CORE_GONE_S = 5.0  # Health Check and Monitor end this long after a core that has ended on purpose


def register(commands: Commands) -> None:
    command = add(commands, "core", core, "run the Load Balancer in the foreground")
    add_presence(command)
    command = add(commands, "hub", hub, "run a hub of workers in the foreground")
    add_presence(command)
    command.add_argument(
        "--workers", type=count, metavar="N", help="workers in all, shared by the groups of WKHUB_WORKERS in proportion"
    )
    command.add_argument(
        "--only", type=users, default=[], metavar="NAME,NAME", help="run only tasks of these users (all by default)"
    )
    command.add_argument("--tasks", metavar="FILE", help=argparse.SUPPRESS)
    command.add_argument(
        "--host", metavar="USER@MACHINE", help="run it on another computer, over ssh (needs no password)"
    )
    command.add_argument("--python", default="", metavar="COMMAND", help="with --host: the command for Python there")
    command.add_argument("--make-venv", action="store_true", help="with --host: install nblb there if it is missing")
    command.add_argument("--checked", action="store_true", help=argparse.SUPPRESS)  # the starter has made sure
    command.add_argument("--core", default="", metavar="ADDRESS", help=argparse.SUPPRESS)  # the end of a tunnel
    _add_batch_options(command)
    command.add_argument("--engine", default="", metavar="NAME", help="dask, or module:callable for any Executor")
    command.add_argument(
        "--engine-options", type=json_object, default={}, metavar="JSON", help="an object of options for the engine"
    )
    command = add(commands, "monitor", monitor, "serve the Monitor page in the foreground; make links to it")
    add_presence(command)
    _add_links(command)
    command.add_argument("--address", help="instead of MONITOR_IP")
    command.add_argument("--port", type=count, help="instead of MONITOR_PORT; 0 is any free one")
    command.add_argument("--prefix", default="", help="path in front of the page, behind a proxy")
    command.add_argument("--allow-websocket-origin", action="append", default=[], metavar="HOST")
    command.add_argument("--basic-auth", metavar="FILE", help="JSON object of users and passwords, or one password")
    command.add_argument("--cookie-secret", default="", help="keeps logins valid over restarts (PANEL_COOKIE_SECRET)")
    command = add(commands, "dashboard", dashboard, "serve the control panel and the Monitor's pages", parameters=False)
    command.add_argument(
        "-p", "--parameters", metavar="FILE", help="the parameters.json in its form (./parameters.json)"
    )
    command.add_argument("--address", help="instead of MONITOR_IP")
    command.add_argument("--port", type=count, default=0, help="any free one by default")
    command.add_argument("--prefix", default="", help="path in front of the page, behind a proxy")
    command.add_argument("--allow-websocket-origin", action="append", default=[], metavar="HOST")
    command.add_argument("--end-with", type=count, default=0, help=argparse.SUPPRESS)


def _add_links(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of `nblb monitor link` and `nblb monitor renew`."""
    command.add_argument(
        "action", nargs="?", choices=("link", "renew"), help="link: print a link for somebody; renew: end all of them"
    )
    command.add_argument("name", nargs="?", default="", help="link: the person, as the user of tasks (guest)")
    command.add_argument(
        "--role", choices=MONITOR_ROLES, default="viewer", help="link: what the person may do (viewer)"
    )
    command.add_argument(
        "--expires", type=duration, default=LINK_S, metavar="TIME", help="link: how long it can be opened (1h)"
    )
    command.add_argument(
        "--login", type=duration, default=LOGIN_S, metavar="TIME", help="link: how long a browser stays logged in (12h)"
    )


def _add_batch_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of a hub in a batch job, and of the process that submits such jobs."""
    command.add_argument(
        "--slurm", metavar="OPTIONS", help="run hubs as jobs of Slurm, with these options of sbatch: '--partition=main'"
    )
    command.add_argument("--hubs", type=at_least_one, default=1, metavar="N", help="with --slurm: how many (1)")
    command.add_argument(
        "--backlog",
        type=at_least_one,
        default=BatchOptions().backlog,
        metavar="N",
        help="with --slurm: how many of them may wait at a time (4)",
    )
    command.add_argument("--group", type=count, help=argparse.SUPPRESS)  # of WKHUB_WORKERS, which asks for this hub
    command.add_argument(
        "--lives",
        type=lifetime,
        metavar="TIME",
        default=0.0,
        help="in a batch job: hand back what runs, and end, after 55m or 90s; auto asks Slurm",
    )


def add_presence(command: argparse.ArgumentParser) -> None:
    """Adds the option by which a starter passes the process's RoleLock."""
    command.add_argument("--presence", nargs=2, metavar=("FD", "FILE"), help=argparse.SUPPRESS)


def core(options: argparse.Namespace) -> int:
    """Run the Load Balancer until SIGTERM, Ctrl-C or `nblb stop`."""
    from nblb.broker.load_balancer import LoadBalancer
    from nblb.system.machine import allow_many_files

    parameters = load(options.parameters)
    balancer = LoadBalancer(parameters)
    _collect_less_often()
    allow_many_files()  # each connection takes a descriptor
    with _role(options, parameters, "core", balancer.stop):
        balancer.startLB()
    return 0


def hub(options: argparse.Namespace) -> int:
    """Run a hub of workers until SIGTERM, Ctrl-C, or the core's order to stop."""
    if options.slurm is not None:
        return _hubs_in_batch(options)
    if options.host is not None:
        return _hub_elsewhere(options)
    if options.python or options.make_venv:
        raise NblbError("--python and --make-venv are for a hub on another computer: add --host USER@MACHINE")
    from nblb.hub.worker_hub import WorkerHub
    from nblb.system import batch_job, child_processes

    parameters = given = settings(options, "hub").admitting(options.only)
    lives_s = batch_job.lives_s() if options.lives is None else options.lives
    engine, engine_options = options.engine, options.engine_options
    if options.group is not None:
        group = given.WKHUB_WORKERS[options.group]
        parameters, engine, engine_options = given.of_group(options.group), group.engine, group.options
    if engine and (told := os.environ.get(isolated_python.TASKS)):
        isolated_python.set_up_for_tasks(told)  # its callable may be a module of the user

    def made() -> WorkerHub:
        return WorkerHub(parameters, options.workers, options.core, lives_s, engine, engine_options)

    worker_hub = made()
    functions = _functions(options.tasks)
    _collect_less_often()
    child_processes.adopt()

    def stop(reason: str = "stopped") -> None:
        worker_hub.stop(reason)  # of the hub that runs now

    with _role(options, given, "hub", stop) as presence:  # other starters compare the settings of all groups
        presence.say(group=options.group)
        # A batch system announces the end of a job with it (sbatch --signal).
        signal.signal(signal.SIGUSR1, lambda *_: stop("its batch job is about to end"))
        tried, refusal = set[str](), ""
        while worker_hub.parameters.connection not in tried:
            tried.add(worker_hub.parameters.connection)
            for name, function in functions.items():
                worker_hub.add_packed(name, function)
            worker_hub.run()
            if worker_hub.restarts:
                _start_again(presence)
            refusal = worker_hub.refusal
            if not refusal or not worker_hub.parameters.connection:
                break
            worker_hub = made()  # with another key, if there is one
    if refusal:
        raise NotAllowed(f"the core refuses this hub: {refusal}")
    return 0


def _hub_elsewhere(options: argparse.Namespace) -> int:
    """Keep a hub on another computer until it ends, or until SIGTERM or Ctrl-C, which end it."""
    from nblb.launch.ssh import hosts, probe, role

    parameters = with_connection(settings(options))
    hosts.refuse_remote_core(parameters)
    python, differs = options.python, ""
    if not options.checked and not options.presence:
        computer = hosts.look(options.host, python, options.make_venv)
        print(probe.summary(computer), flush=True)
        python = computer.python
    ending = threading.Event()
    stops: list[Callable[[], None]] = []

    def stop() -> None:
        ending.set()
        for each in stops:
            each()

    with _role(options, parameters, hosts.ROLE, stop) as presence:
        _end_with_core(parameters, stop, bool(options.presence))
        if not options.checked and options.presence:  # started with the core, perhaps before that computer
            presence.say(host=options.host)
            patient = hosts.patient_look(
                options.host, python, lambda text: _note_trouble(presence, text), lambda: ending.wait(HOST_AGAIN_S)
            )
            if patient is None:
                return 0
            print(probe.summary(patient), flush=True)
            python, differs = patient.python, probe.trouble(patient)
        workers = [] if options.workers is None else ["--workers", str(options.workers)]
        workers += ["--only", ",".join(options.only)] if options.only else []
        kept = role.RemoteHub(parameters, options.host, python or "python3", workers, presence, differs)
        stops.append(kept.stop)
        if ending.is_set():
            kept.stop()
        ended = kept.run()
    if ended.failed:
        raise NblbError(ended.failed)
    if ended.left:
        print(f"WKHUB - {ended.left}", flush=True)
    return 0 if not ended.left else 1


def _hubs_in_batch(options: argparse.Namespace) -> int:
    """Keep hubs in Slurm until SIGTERM or Ctrl-C, which cancel their jobs, or until the core has ended."""
    from nblb.launch.batch import hubs

    if options.host is not None:
        raise NblbError("--slurm and --host exclude each other: a batch system chooses the computers itself")
    parameters = with_connection(settings(options))
    request = hubs.BatchRequest(
        options.slurm, options.hubs, options.backlog, options.workers, options.group, tuple(options.only or ())
    )
    if not options.checked:
        print(hubs.check(parameters, request), flush=True)
    stops: list[Callable[[], None]] = []
    ending = threading.Event()

    def stop() -> None:
        ending.set()
        for each in stops:
            each()

    with _role(options, parameters, hubs.ROLE, stop) as presence:
        _end_with_core(parameters, stop, bool(options.presence))
        kept = hubs.keep(parameters, request, presence)
        stops.append(kept.stop)
        if ending.is_set():
            kept.stop()
        ended = kept.run()
    if ended.left:
        print(f"WKHUB - {ended.left}", flush=True)
    return 0 if not ended.left else 1


def _note_trouble(presence: RoleLock, text: str) -> None:
    presence.say(trouble=text)
    print(f"WKHUB - {text}; another attempt follows in {HOST_AGAIN_S:g} s", flush=True)


def _start_again(presence: RoleLock) -> None:
    """Replaces this process by a new one with the same command line, which has the same pid and keeps the RoleLock."""
    words = sys.orig_argv[1:]
    if "--presence" in words:
        os.set_inheritable(presence.file, True)
    else:
        presence.leave()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *words])


def _collect_less_often() -> None:
    """Makes garbage collection rarer: a collection every 700 objects is a waste in a process with a million tasks."""
    gc.set_threshold(50_000, 20, 100)


def health(options: argparse.Namespace) -> int:
    """Check core and hubs repeatedly, and print what is wrong."""
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
    """Serve the Monitor page until SIGTERM or Ctrl-C; or print a link to the running one, or end all links."""
    if options.action is not None:
        return _links(options)
    parameters = load(options.parameters)

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # the server has its own handler now

    def ready(url: str) -> None:
        presence.say(url=url)
        print(f"Monitor on {url}", flush=True)

    with _role(options, parameters, "monitor", lambda: sys.exit(0)) as presence:
        from nblb.monitoring.server import serve

        _end_with_core(parameters, stop, bool(options.presence))
        serve(
            parameters,
            address=options.address,
            port=options.port,
            prefix=options.prefix,
            basic_auth=options.basic_auth,
            cookie_secret=options.cookie_secret,
            allow_websocket_origin=options.allow_websocket_origin,
            ready=ready,
        )
    return 0


def _links(options: argparse.Namespace) -> int:
    parameters = with_connection(settings(options))
    if options.action == "renew":
        renew_monitor_key(claim(parameters.state_dir))
        print("all links to the Monitor and all logins have ended")
        return 0
    print(link_for(parameters, options.name, options.role, options.expires, options.login))
    minutes = f"{options.expires / 60:,.0f} minutes"
    print(f"for {options.name or 'guest'}, {options.role}, for {minutes}; whoever has it can use it", file=sys.stderr)
    return 0


def dashboard(options: argparse.Namespace) -> int:
    """Serve the control panel and the Monitor's pages until SIGTERM or Ctrl-C; no core need run."""
    from nblb.monitoring.dashboard import serve_dashboard

    serve_dashboard(
        options.parameters,
        lambda url: print(f"Dashboard on {url}", flush=True),
        end_with=options.end_with,
        address=options.address,
        port=options.port,
        prefix=options.prefix,
        allow_websocket_origin=options.allow_websocket_origin,
    )
    return 0


@contextlib.contextmanager
def _role(
    options: argparse.Namespace, parameters: Parameters, role: str, stop: Callable[[], object]
) -> Iterator[RoleLock]:
    """The common part of all roles: the RoleLock, an orderly end on a signal, and a bounded log."""
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
    start_thread(_look_after, "nblb-files", (presence, parameters))
    try:
        yield presence
    finally:
        presence.leave()


def _look_after(presence: RoleLock, parameters: Parameters) -> None:
    """Makes the RoleLock's file again when it is removed, and bounds the log; the thread of each role for its files."""
    pause, missed, others = threading.Event(), 0, 0
    while True:
        pause.wait(WATCH_S)
        with contextlib.suppress(NblbError, OSError):
            _bound_log()
            missed = 0 if presence.is_at(parameters.runtime_dir) else missed + 1
            if missed >= MISSED and parameters.state_dir.is_dir():  # one that was removed is not made again
                others = 0 if presence.keep(runtime_folder(parameters)) else others + 1
        if others == MOST_OTHERS and presence.is_alone:
            print("another process has taken over this role: this one ends", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)


def _bound_log() -> None:
    """Rotates the log if it has grown long; does nothing on a terminal or a pipe."""
    found = os.fstat(1)
    if not stat.S_ISREG(found.st_mode) or found.st_size <= LOG_BYTES:
        return
    with contextlib.suppress(OSError):  # needs /proc
        log = Path("/proc/self/fd/1").readlink()
        old = os.open(log.with_suffix(".log.1"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(old, "wb") as file:
            file.write(log.read_bytes()[-LOG_BYTES:])
    os.ftruncate(1, 0)  # the file is open for appending, so the next line starts it anew


def _end_with_core(parameters: Parameters, stop: Callable[[], object], was_there: bool) -> None:
    """Stops a companion of the core when the core has ended on purpose, which removes core.json and unlocks its folder.

    `was_there`: the starter of this process had found a core, even if it has ended since.
    """

    def watch() -> None:
        pause, seen, gone_s = threading.Event(), was_there, 0.0
        while gone_s < CORE_GONE_S:
            there = find_core_file(parameters) is not None
            seen |= there
            gone_s = gone_s + WATCH_S if seen and not there else 0.0
            pause.wait(WATCH_S)
        stop()

    start_thread(watch, "nblb-watch-core")


def _functions(path: str | None) -> dict[str, Payload]:
    """Reads the file with the functions of startWorkerHub, which stay pickled; a restart of the hub reads it again."""
    if path is None:
        return {}
    import msgspec

    from nblb.protocol.framing import Payload

    file = Path(path)
    packed = msgspec.msgpack.decode(file.read_bytes(), type=dict[str, bytes])
    return {name: Payload.frombytes(stored) for name, stored in packed.items()}
