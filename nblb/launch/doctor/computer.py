"""Checks of this computer and account: versions, limits, file systems, proxies, keys, units."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from nblb import cgroup
from nblb._version import __version__
from nblb.access import connection_file, key_file
from nblb.errors import NblbError
from nblb.host import account, cores, network_file_system
from nblb.launch.doctor.finding import Finding
from nblb.launch.service.systemd import Systemd, ends_sessions, lingers
from nblb.parameters import Parameters
from nblb.system.private_folder import is_loopback, place_of_sockets

LIBZMQ = (4, 3, 5)  # older ones have known faults before the handshake
FEW_FILES, FEW_PROCESSES = 4096, 1024
LITTLE_DISK, NO_DISK = 2 << 30, 256 << 20
LITTLE_MEMORY = 1 << 30
SOON_S = 7 * 86400.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def versions() -> Iterator[Finding]:
    """Check Python, nblb and the libraries that the parties of a cluster must have alike."""
    known = {name: metadata.version(name) for name in ("pyzmq", "cloudpickle", "msgspec")}
    said = ", ".join(f"{name} {number}" for name, number in known.items())
    yield Finding("ok", "versions", f"nblb {__version__}, Python {sys.version.split()[0]}, {said}")
    import zmq

    if zmq.zmq_version_info() < LIBZMQ:
        wanted = ".".join(map(str, LIBZMQ))
        yield Finding("fail", "versions", f"libzmq {zmq.zmq_version()} has known faults; install a pyzmq with {wanted}")
    if not zmq.has("curve"):
        yield Finding("fail", "versions", "this pyzmq cannot encrypt, so no other computer is reached; "
                                          "pip install 'nblb[remote]'")  # fmt: skip
    from nblb.transport.curve.keys import slowness

    if slow := slowness():
        yield Finding("warn", "versions", slow)


def limits(parameters: Parameters) -> Iterator[Finding]:
    """Check open files, processes, memory, cores and free disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FEW_FILES * 100 if hard == resource.RLIM_INFINITY else hard
    if most < FEW_FILES:
        yield Finding(
            "warn",
            "limits",
            f"this account may open {most:,} files, and each worker and person takes some: "
            "raise 'nofile' in /etc/security/limits.conf, or the unit's LimitNOFILE",
        )
    else:
        yield Finding("ok", "limits", f"{most:,} open files")
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and soft < FEW_PROCESSES:
        yield Finding("warn", "limits", f"this account may have {soft:,} processes and threads, and libraries start "
                                        "one a core in each worker: raise 'nproc' in limits.conf")  # fmt: skip
    memory = cgroup.memory_bytes()
    if memory < LITTLE_MEMORY:
        yield Finding("warn", "limits", f"this container or job may use {memory / 2**20:,.0f} MiB of memory; give the "
                                        "groups of WKHUB_WORKERS a memory_mb, or have fewer workers")  # fmt: skip
    usable, whole = cores(), os.cpu_count() or 1
    of = f"{usable} of {whole} cores" if usable < whole else f"{whole} cores"
    yield Finding("ok", "limits", f'{of} for "auto" groups of workers')
    yield from _disk(parameters.state_dir)


def _disk(folder: Path) -> Iterator[Finding]:
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        yield Finding("fail", "disk", f"{folder} cannot be read: {error.strerror}")
        return
    text = f"{free / 1e9:,.1f} GB free for {folder}"
    if free < NO_DISK:
        yield Finding("fail", "disk", f"{text}: a core accepts no tasks on a full disk; make room, or set LB_STATE_DIR")
    elif free < LITTLE_DISK:
        yield Finding("warn", "disk", f"{text}: results and outputs fill it soon; make room, or set LB_STATE_DIR")
    else:
        yield Finding("ok", "disk", text)


def file_systems(parameters: Parameters) -> Iterator[Finding]:
    """Check the places of the journal and of the sockets."""
    folder = parameters.state_dir
    kind = network_file_system(folder)
    if kind:
        yield Finding(
            "warn",
            "files",
            f"the state folder {folder} is on a network file system ({kind}): commits are "
            "slow there, and locks may not hold; set LB_STATE_DIR to a local disk",
        )
    else:
        yield Finding("ok", "files", f"the state folder {folder} is on a local disk")
    if place := place_of_sockets(parameters):
        yield Finding("ok", "files", place)
    there = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("fail", "files", f"{account()} cannot write to {there}, where the state folder is to be; "
                                       "set LB_STATE_DIR, or have the folder given to this account")  # fmt: skip


def proxies(parameters: Parameters, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check the variables of proxies, which only web requests follow."""
    found = sorted({name.lower() for name in PROXIES if environment.get(name)})
    if not found:
        yield Finding("ok", "proxies", "no proxy is set")
        return
    names = ", ".join(found)
    if not is_loopback(parameters.LB_IP) or parameters.connection:
        yield Finding("warn", "proxies", f"{names} are set, and the cluster's connections do not go through a proxy: "
                                         f"the ports of {parameters.LB_IP} must be reachable directly")  # fmt: skip
    exempt = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    if parameters.MONITOR_IP not in [name.strip() for name in exempt] and "*" not in exempt:
        yield Finding("warn", "proxies", f"{names} are set, no_proxy does not have {parameters.MONITOR_IP}: programs "
                                         "may ask the proxy for the Monitor's page; add it to no_proxy")  # fmt: skip


def keys(parameters: Parameters) -> Iterator[Finding]:
    """Check the files of keys of the core here, and of the clusters that this account has joined."""
    folder = parameters.state_dir / key_file.FOLDER
    if folder.is_dir() and not parameters.connection:
        yield from _private(folder)
        yield from _parties(parameters)
    for role in ("", "hub"):
        for name, path in connection_file.known(role).items():
            try:
                found = connection_file.read(path)
            except NblbError as error:
                yield Finding("fail", "keys", str(error))
                continue
            as_role = f"{found.name!r} as {found.role}"
            if found.refused:
                yield Finding("warn", "keys", f"the key for {name} ({as_role}) was refused: {found.refused}")
            else:
                yield Finding("ok", "keys", f"the key for {name} ({as_role}) is readable by this account only")


def _private(folder: Path) -> Iterator[Finding]:
    bad = []
    for path in (folder, *folder.iterdir()):
        found = path.lstat()
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            bad.append(path.name)
    if bad:
        yield Finding("fail", "keys", f"other accounts can read {', '.join(sorted(bad))} in {folder}: run 'chmod -R "
                                      f"go= {folder}', and revoke the keys if somebody may have read them")  # fmt: skip
    else:
        yield Finding("ok", "keys", f"the core's keys in {folder} are readable by this account only")


def _parties(parameters: Parameters) -> Iterator[Finding]:
    try:
        store = key_file.KeyFile(parameters.state_dir).store
    except NblbError as error:
        yield Finding("fail", "keys", str(error))
        return
    now, valid = time.time(), 0
    for party in store.parties():
        if party.revoked or (party.until and party.until <= now):
            continue
        valid += 1
        if party.until and party.until < now + SOON_S:
            days = (party.until - now) / 86400.0
            yield Finding("warn", "keys", f"the key of {party.name!r} expires in {days:.1f} days; 'nblb users set "
                                          f"{party.name} --expires 90d' extends it")  # fmt: skip
    yield Finding("ok", "keys", f"{valid} valid keys of people and hubs")


def units() -> Iterator[Finding]:
    """Check the systemd units of nblb, and what a log-out does."""
    found = [unit for is_system in (False, True) for unit in Systemd(is_system).units()]
    for unit in found:
        scope = "" if unit.is_system else "--user "
        if unit.active == "failed":
            yield Finding("fail", "units", f"{unit.name} has failed; 'systemctl {scope}status {unit.name}' says why")
        elif unit.enabled not in ("enabled", ""):
            yield Finding("warn", "units", f"{unit.name} is {unit.enabled}: it does not start with the computer; "
                                           f"'systemctl {scope}enable {unit.name}' changes that")  # fmt: skip
        else:
            yield Finding("ok", "units", f"{unit.name} is {unit.active or 'written; systemd does not run here'}")
    if any(not unit.is_system for unit in found) and not lingers(account()):
        yield Finding("warn", "units", f"the units of {account()} end with its last log-out, because lingering is off; "
                                       f"'loginctl enable-linger {account()}' keeps them")  # fmt: skip
    if not found and ends_sessions():
        yield Finding("warn", "units", "logind ends what a session has started at its log-out (KillUserProcesses=yes): "
                                       "'nblb service install' keeps the cluster up")  # fmt: skip
    elif not found:
        yield Finding("ok", "units", "no unit of nblb is installed; 'nblb service install' installs one")
