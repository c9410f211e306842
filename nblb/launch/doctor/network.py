"""Checks of what is between computers: ports, firewalls, clocks, and the versions of the others."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nblb._version import __version__
from nblb.access import connection_file
from nblb.errors import NblbError
from nblb.launch import one_shot
from nblb.launch.doctor.finding import Finding, Level
from nblb.launch.ssh.command import check_host
from nblb.parameters import Parameters
from nblb.protocol.messages import Welcome
from nblb.system.core_file import find_core_file
from nblb.system.private_folder import is_loopback

CONNECT_S = 3.0
SSH_S = 30.0
SKEW_S, LARGE_SKEW_S = 2.0, 300.0
DOORS = {"clients": "LB_CLIENTPULLPORT", "hubs": "LB_WKPULLPORT", "bulk": "WKHUB_LBPORT"}
PROBE = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), 3).close()
        print(port, "open")
    except TimeoutError:
        print(port, "no answer")
    except OSError as error:
        print(port, error.strerror or error)
"""


def network(parameters: Parameters, hosts: Sequence[str]) -> Iterator[Finding]:
    """Check the core of these parameters, and whether this computer and the named ones reach it."""
    try:
        parameters = one_shot.let_in(parameters)
    except NblbError as error:
        yield Finding("fail", "core", str(error))
        return
    if parameters.connection:
        found = connection_file.read(Path(parameters.connection))
        yield from _of_another(parameters, found, hosts)
        return
    core = find_core_file(parameters)
    runs = core is not None and not core.stale
    if core is None or not runs:
        yield Finding("warn", "core", f"no core {parameters.name!r} runs here; 'nblb start' starts one")
        yield from _free_ports(parameters)
        return
    yield Finding("ok", "core", f"the core {parameters.name!r} runs (pid {core.pid})")
    yield from _answers(parameters)
    remote = {door: core.addresses.get(f"{door}_remote", "") for door in ("clients", "hubs")}
    if not remote["clients"]:
        yield Finding("ok", "ports", "the core listens for this computer only; 'nblb start --listen IP' for others")
        return
    welcome = one_shot.welcome(one_shot.find(parameters)[0])
    ports = {door: int(address.rpartition(":")[2]) for door, address in remote.items()}
    yield from _reach(parameters.LB_IP, _with_bulk(ports, welcome), hosts)


def _of_another(
    parameters: Parameters, found: connection_file.ConnectionFile, hosts: Sequence[str]
) -> Iterator[Finding]:
    """Check a core on another computer, with the keys of this account."""
    ports = {"clients": found.clients, "hubs": found.hubs}
    try:
        welcome = one_shot.welcome(found.address("clients"))
    except NblbError as error:
        yield Finding("fail", "core", str(error))
        yield from _reach(found.host, ports, hosts)
        return
    yield Finding("ok", "core", f"the core {found.cluster!r} at {found.host} answers {found.name!r}")
    yield from _answers(parameters)
    yield from _reach(found.host, _with_bulk(ports, welcome), hosts)


def _with_bulk(ports: Mapping[str, int], welcome: Welcome) -> dict[str, int]:
    return {**ports, **({"bulk": welcome.bulk} if welcome.bulk else {})}


def _answers(parameters: Parameters) -> Iterator[Finding]:
    """Compare the clock and the versions of the core and its hubs with those here."""
    try:
        address, _ = one_shot.find(parameters)
        begun = time.time()
        status = one_shot.ask(address, "status")
        here = (begun + time.time()) / 2
        hubs: list[dict[str, Any]] = one_shot.ask(address, "hubs")
    except NblbError as error:
        yield Finding("fail", "core", str(error))
        return
    skew_s = here - (float(status["started_at"]) + float(status["uptime_s"]))
    if abs(skew_s) < SKEW_S:
        yield Finding("ok", "clocks", f"this clock and the core's differ by {abs(skew_s):.1f} s")
    else:
        ahead = "ahead of" if skew_s > 0 else "behind"
        yield Finding(
            "warn" if abs(skew_s) < LARGE_SKEW_S else "fail", "clocks",
            f"this clock is {abs(skew_s):,.0f} s {ahead} the core's: tasks and leases do not mind, but ends of keys "
            "and invitations, and times in files, are told apart by that much; have both set by NTP (timedatectl)",
        )  # fmt: skip
    yield from _alike("core", status.get("nblb", ""), status.get("python"))
    for hub in hubs:
        yield from _alike(f"hub {hub['name']}", hub.get("nblb", ""), hub.get("python"))
    if not hubs:
        yield Finding("warn", "hubs", "no hub is connected, so no task runs; start one with 'nblb hub'")


def _alike(who: str, nblb: str, python: Any) -> Iterator[Finding]:
    """Compare the versions of a process of the cluster with those here."""
    theirs = ".".join(map(str, python)) if isinstance(python, (list, tuple)) else str(python or "")
    mine = ".".join(map(str, sys.version_info[:2]))
    if theirs and theirs != mine and who != "core":
        yield Finding("fail", "versions", f"{who} runs Python {theirs}, this is {mine}, and functions travel between "
                                          f"equal minor versions only: use {theirs} here, or {mine} there")  # fmt: skip
    if nblb and nblb != __version__:
        yield Finding("warn", "versions", f"{who} has nblb {nblb}, this is {__version__}; install the same on both")


# ── ports ───────────────────────────────────────────────────────────────────────────────────────────────────


def _free_ports(parameters: Parameters) -> Iterator[Finding]:
    """Check that the ports of a core that does not run are free."""
    wanted = {"MONITOR_PORT": (parameters.MONITOR_IP, parameters.MONITOR_PORT)}
    if not is_loopback(parameters.LB_IP) or parameters.LB_SECURITY == "none":
        wanted |= {key: (parameters.LB_IP, getattr(parameters, key)) for key in DOORS.values()}
    for key, (ip, port) in wanted.items():
        if not port:
            continue
        problem = _why_taken(ip, port)
        if problem == errno.EADDRINUSE:
            yield Finding(
                "fail" if key != "MONITOR_PORT" else "warn",
                "ports",
                f"{key} {port} on {ip} is in use by {_owner(port)}; end it, or choose another port",
            )
        elif problem == errno.EADDRNOTAVAIL:
            yield Finding("fail", "ports", f"{ip} is no address of this computer, so nothing listens there ({key})")
        elif problem == errno.EACCES:
            yield Finding("fail", "ports", f"this account may not listen on {key} {port}; choose one above 1023")
        else:
            yield Finding("ok", "ports", f"{key} {port} is free")


def _why_taken(ip: str, port: int) -> int:
    """Return the number of the error of an attempt to listen there; 0 for none."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return 0


def _owner(port: int) -> str:
    """Return a name for the program that listens on a port, as far as this account may see it."""
    import psutil

    try:
        for one in psutil.net_connections("tcp"):
            if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid:
                return f"{psutil.Process(one.pid).name()} (pid {one.pid})"
    except (psutil.Error, OSError):
        pass
    return "another program"


def _reach(host: str, ports: Mapping[str, int], hosts: Sequence[str]) -> Iterator[Finding]:
    """Check from here, and from the named hosts over ssh, that the ports of a core can be reached."""
    yield from _told("this computer", host, ports, {port: _try(host, port) for port in ports.values()})
    for there in hosts:
        try:
            said = _ask_host(there, host, list(ports.values()))
        except NblbError as error:
            yield Finding("fail", "reach", str(error))
            continue
        yield from _told(there, host, ports, said)


def _told(where: str, host: str, ports: Mapping[str, int], said: Mapping[int, str]) -> Iterator[Finding]:
    for door, port in ports.items():
        answer = said.get(port, "no answer")
        if answer == "open":
            yield Finding("ok", "reach", f"{where} reaches {host} port {port} ({DOORS[door]})")
            continue
        level: Level = "warn" if door == "bulk" else "fail"
        slow = "; until then large buffers go with the messages, slowly" if door == "bulk" else ""
        yield Finding(level, "reach", f"{where} does not reach {host} port {port} ({DOORS[door]}): {answer}; "
                                      f"{_how_to_open(port)}{slow}")  # fmt: skip


def _how_to_open(port: int) -> str:
    """Return what opens a port in the firewall of the core's computer."""
    if _says(Path("/etc/ufw/ufw.conf"), "ENABLED=yes"):
        return f"ufw is active here: 'ufw allow {port}/tcp' opens it on the core's computer"
    if shutil.which("firewall-cmd"):
        how = f"firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload"
        return f"'{how}' opens it on the core's computer"
    return "open it in the firewall of the core's computer, and in any between"


def _says(path: Path, line: str) -> bool:
    try:
        return line in path.read_text(errors="replace").splitlines()
    except OSError:
        return False


def _try(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or str(error)
    return "open"


def _ask_host(there: str, host: str, ports: Sequence[int]) -> dict[int, str]:
    """Return how each port looks from another computer, which ssh reaches."""
    ssh = os.environ.get("NBLB_SSH", "ssh").split()
    words = [*ssh, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S:.0f}", check_host(there), "python3", "-",
             host, *map(str, ports)]  # fmt: skip
    try:
        done = subprocess.run(words, check=False, input=PROBE, capture_output=True, text=True, timeout=SSH_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NblbError(f"{there} cannot be asked over ssh: {error}") from None
    if done.returncode:
        raise NblbError(f"{there} cannot be asked over ssh: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    answers = (line.partition(" ") for line in done.stdout.splitlines())
    return {int(port): answer for port, _, answer in answers if answer}
