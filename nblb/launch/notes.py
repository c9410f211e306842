"""Notes on requests that a start could not fulfil: settings that differ from those of the running processes, a Monitor
on another port or on none, an address that other computers cannot reach; and on what a damaged journal has lost.

They do not prevent a start; the cluster's card, `nblb start` and `nblb status` show them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nblb.launch.presence import present
from nblb.launch.roles import tail
from nblb.system.console import no_security
from nblb.system.core_file import find_core_file
from nblb.system.private_folder import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nblb.parameters import Parameters

KEYS = {"core": "LB_", "hub": "WKHUB_", "monitor": "MONITOR_"}  # role -> prefix of its settings
NOT_COMPARED = frozenset(
    {"LB_NAME", "LB_STATE_DIR", "LB_ON_INTERRUPT", "LB_SHOW_WAIT_S"}
)  # of other clusters, or of the notebook only
LONGEST = 1500  # characters of a value; a longer one is compared by its hash
MOST_PORTS = 50  # ports that are tried after MONITOR_PORT
COMPLAINT = "nblb: "  # start of the last line in the log of a process that ended with an error


def settings_of(role: str, parameters: Parameters) -> dict[str, str]:
    """The settings of a process with this role as JSON texts, which it records beside its pid."""
    prefix = KEYS.get(role, "-")
    found = {
        key: json.dumps(value, sort_keys=True)
        for key, value in parameters.as_dict().items()
        if key.startswith(prefix) and key not in NOT_COMPARED
    }
    if "MONITOR_AUTH" in found:
        found["MONITOR_AUTH"] = _digest(found["MONITOR_AUTH"])
    return {key: text if len(text) <= LONGEST else _digest(text) for key, text in found.items()}


def differences(parameters: Parameters) -> list[str]:
    """A sentence for each process of the cluster on this computer that runs with other settings than these."""
    if parameters.source == "defaults":
        return []
    sentences: list[str] = []
    seen: set[str] = set()
    for role in KEYS:
        wanted = settings_of(role, parameters)
        for one in present(parameters.runtime_dir, role):
            has = one.about.get("settings")
            other = {key for key in wanted if isinstance(has, dict) and key in has and has[key] != wanted[key]}
            if has is None or not other - seen:
                continue
            said = "; ".join(_difference(key, wanted, has) for key in sorted(other - seen))
            seen |= other
            sentences.append(
                f"the running {role} (pid {one.pid}) keeps the settings of its start: {said}. %lb_stop and "
                f"%lb_start, or 'nblb stop' and 'nblb start', apply those of {parameters.source}"
            )
    return sentences


def _difference(key: str, wanted: Mapping[str, str], has: Mapping[str, Any]) -> str:
    old, new = str(has[key]), wanted[key]
    if old.startswith("#") or new.startswith("#"):
        return f"{key} has changed"
    return f"{key} was {_clipped(old)} and is {_clipped(new)} now"


def address(parameters: Parameters) -> str:
    """The note on a core that listens for other computers with a pyzmq that encrypts slowly; else ""."""
    if parameters.LB_SECURITY != "on" or is_loopback(parameters.LB_IP):
        return ""
    from nblb.transport.curve import keys  # which loads ZeroMQ

    return keys.slowness()


def security(parameters: Parameters) -> str:
    """The warning that the cluster of these parameters lets other accounts in; else ""."""
    core = None if parameters.connection else find_core_file(parameters)
    running = core.about.get("security") if core is not None else None
    return no_security(parameters.changed(LB_SECURITY=running) if running in ("on", "none") else parameters)


def monitor_refused(parameters: Parameters) -> str:
    """The note on a MONITOR_IP where the Monitor must not be served; else ""."""
    if is_loopback(parameters.MONITOR_IP):
        return ""
    return (
        f"no Monitor: MONITOR_IP is {parameters.MONITOR_IP}, and the Monitor has no encrypted login yet, so it "
        'serves this computer only; set it to "127.0.0.1", and reach it from elsewhere by JupyterLab\'s proxy or SSH'
    )


def monitor_port(parameters: Parameters) -> tuple[int, str]:
    """A free port for the Monitor, and a note if it is not MONITOR_PORT."""
    wanted = parameters.MONITOR_PORT
    if not wanted:
        return 0, ""
    port = next((port for port in range(wanted, min(wanted + MOST_PORTS, 65536)) if _free(parameters, port)), 0)
    if port == wanted:
        return port, ""
    place = f"is on port {port}" if port else "is on any free port, which 'nblb status' names"
    return port, _moved(wanted, place)


def monitor_moved(parameters: Parameters) -> str:
    """The note on a running Monitor that found its port taken; "" for one on MONITOR_PORT, or none."""
    there = present(parameters.runtime_dir, "monitor")
    port = urlsplit(str(there[0].about.get("url", ""))).port if there else None
    if not port or not parameters.MONITOR_PORT or port == parameters.MONITOR_PORT:
        return ""
    return _moved(parameters.MONITOR_PORT, f"is on port {port}")


def _moved(wanted: int, place: str) -> str:
    return f"MONITOR_PORT {wanted} is taken by another program, so the Monitor {place}"


def monitor_trouble(parameters: Parameters) -> str:
    """The note on why this cluster has no Monitor; "" if none was requested or one is starting."""
    refused = monitor_refused(parameters)
    if refused or present(parameters.runtime_dir, "monitor"):
        return refused
    last = tail(monitor_log(parameters)).rstrip().rpartition("\n")[2]
    sentence = last.removeprefix(COMPLAINT)
    return "" if sentence == last else f"no Monitor: {sentence.removeprefix('no Monitor: ')}"


def monitor_log(parameters: Parameters) -> Path:
    return parameters.state_dir / "logs" / "monitor.log"


def lost_entries(parameters: Parameters) -> str:
    """The note on a core whose journal was damaged when it started; "" for a sound one."""
    core = None if parameters.connection else find_core_file(parameters)
    lost = core.about.get("lost") if core is not None else None
    return f"the journal is damaged: {'; '.join(map(str, lost))}" if isinstance(lost, list) and lost else ""


def _free(parameters: Parameters, port: int) -> bool:
    """True if the port is free, or if that cannot be determined."""
    family = socket.AF_INET6 if ":" in parameters.MONITOR_IP else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((parameters.MONITOR_IP, port))
        except OSError as error:
            return error.errno not in {errno.EADDRINUSE, errno.EACCES}
    return True


def _digest(text: str) -> str:
    return "#" + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _clipped(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
