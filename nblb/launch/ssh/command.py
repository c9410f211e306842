"""The command lines of the system's ssh, and the program that is sent through it.

Whatever works in the user's terminal works here: agents, ~/.ssh/config, jump hosts, certificates. NBLB_SSH replaces the
command `ssh`, for example by "ssh -F FILE".
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from nblb.errors import NblbError
from nblb.launch.ssh import remote_agent

CONNECT_S = 10
SSH_FAILED = 255  # exit code of ssh itself; others are those of the command there
ALIVE_S = 2  # a connection that answers nothing for about two of them is given up
OPTIONS = (
    "BatchMode=yes",  # nobody is there to type a password
    f"ConnectTimeout={CONNECT_S}",
    f"ServerAliveInterval={ALIVE_S}",
    "ServerAliveCountMax=2",
    "RequestTTY=no",
    "RemoteCommand=none",
    "LogLevel=ERROR",
)
FASTER = "Ciphers=^aes128-gcm@openssh.com"  # half again as fast as the default; unknown to an ssh before 8.1
HINTS = (
    ("Host key verification failed", "the key of the computer is not known; run 'ssh {host}' once in a terminal"),
    ("Permission denied", "ssh asks for a password or has no key; set up a key, so that 'ssh {host}' asks nothing"),
    ("remote port forwarding failed", "the ssh server forwards no Unix sockets (AllowStreamLocalForwarding)"),
    ("Could not resolve hostname", "no computer has this name"),
)


class HostUnreachable(NblbError):
    """Raised when ssh does not reach the other computer."""


_HOST = re.compile(r"[^\s\x00-\x1f\x7f-]\S*")


def check_host(host: str) -> str:
    """Return the host if ssh can take it as one.

    Raises
    ------
    NblbError
        It is empty, begins with a dash, or has a space or a control character.
    """
    if not _HOST.fullmatch(host) or not host.isprintable():
        raise NblbError(f"the host is {host!r}; it must be a name for ssh, such as 'user@machine'")
    return host


def ssh_command() -> list[str]:
    """Return the words of the command `ssh`, or of NBLB_SSH."""
    return shlex.split(os.environ.get("NBLB_SSH", "")) or ["ssh"]


def run(host: str, python: str, program: bytes, tunnel: tuple[str, str] | None = None) -> list[str]:
    """Return the command line that runs a program (`program`) on another computer.

    Parameters
    ----------
    host
        The computer, as for ssh.
    python
        The command that runs Python there.
    program
        The program that is sent through the standard input.
    tunnel
        The path of a Unix socket that ssh makes there, and the path of the one here to which it leads.
    """
    options = [*OPTIONS, *([FASTER] if tunnel and _knows(FASTER) else ())]
    words = [*ssh_command(), *(word for option in options for word in ("-o", option))]
    if tunnel is None:
        words += ["-o", "ClearAllForwardings=yes"]
    else:
        there, here = map(_escaped, tunnel)
        words += ["-o", "ExitOnForwardFailure=yes", "-o", "StreamLocalBindMask=0177", "-R", f"{there}:{here}"]
    first = f"import sys;sys.path[:]=[p for p in sys.path if p];exec(sys.stdin.buffer.read({len(program)}))"
    return [*words, "--", check_host(host), f"exec {python} -u -c '{first}'"]


def agent_program(action: str, about: dict[str, Any]) -> bytes:
    """Return the remote agent with this order."""
    source = Path(remote_agent.__file__).read_bytes()
    return source + f"\nmain({action!r}, json.loads({json.dumps(about)!r}))\n".encode()


def answer(host: str, python: str, action: str, about: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Run one action of the agent, and return its answer.

    Raises
    ------
    NblbError
        ssh or the agent failed; the sentence says why, and what to do.
    """
    program = agent_program(action, about)
    words = run(host, python, program)
    try:
        done = subprocess.run(words, input=program, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise HostUnreachable(f"{host} does not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise NblbError(f"{words[0]!r} cannot be run: {error.strerror or error}; is ssh installed?") from None
    messages = [word for line in done.stdout.splitlines() if (word := message(line)) is not None]
    if messages:
        return messages[-1]
    why = reason(host, done.returncode, done.stderr)
    if done.returncode == SSH_FAILED:
        raise HostUnreachable(f"{host} cannot be reached by ssh: {why}")
    raise NblbError(f"Python does not run as {python!r} on {host} ({why}); name it with --python COMMAND (python=)")


def message(line: bytes) -> dict[str, Any] | None:
    """Return the agent's message on this line; None for other output, such as that of a login script."""
    if not line.startswith(b"{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def reason(host: str, code: int | None, stderr: bytes) -> str:
    """Return why ssh has ended, in a sentence, from its exit code and its last words."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1].strip()[:300] if lines else f"ssh ended with code {code}"
    hint = next((hint for sign, hint in HINTS if any(sign in line for line in lines)), "")
    return f"{last}; {hint.format(host=host)}" if hint else last


@cache
def _knows(option: str) -> bool:
    """Return True if this ssh knows the option."""
    try:
        asked = subprocess.run([*ssh_command(), "-G", "-o", option, "--", "x"], capture_output=True, check=False)
    except OSError:
        return False
    return asked.returncode == 0


def _escaped(path: str) -> str:
    """Return the path of a socket as a part of an option of ssh, which takes a colon for the end of it."""
    return path.replace("\\", "\\\\").replace(":", "\\:")
