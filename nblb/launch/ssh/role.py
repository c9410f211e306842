"""The process that keeps a hub on another computer: it runs ssh, and writes the hub's log on its own output.

It is started like the roles of the cluster (launch/roles.py), or as `nblb hub --host` in a terminal. The hub outlives
it; the next one for the same place finds the hub running.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from nblb.launch import one_shot
from nblb.launch.ssh import command
from nblb.launch.ssh.launcher import Command, Dial, Finish, HangUp, HubKnown, Note, Order, ShowLog, SshLauncher
from nblb.system.private_folder import runtime_folder
from nblb.transport.dialing import local_address
from nblb.transport.local_line import SCHEME

if TYPE_CHECKING:
    from nblb.launch.presence import RoleLock
    from nblb.parameters import Parameters

LEFT = ".left"  # suffix of the file with what a launcher could not end, beside its lock file
MOST_STDERR = 20_000
END_S = 2.0  # for ssh to end after its input is closed


class SshProcess:
    """One run of ssh with the agent: messages of the agent come out, orders go in."""

    def __init__(self, words: list[str], program: bytes) -> None:
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._rest = b""
        self._stderr = b""
        self._to_send = program
        pipes = self._process.stdin, self._process.stdout, self._process.stderr
        assert pipes[0] is not None
        assert pipes[1] is not None
        assert pipes[2] is not None
        self._stdin, self._stdout, self._err = pipes[0], pipes[1], pipes[2]
        for pipe in (self._stdin, self._stdout, self._err):
            os.set_blocking(pipe.fileno(), False)
        self._open = [self._stdout, self._err]

    def register(self, waited: select.poll) -> None:
        """Add what a loop waits for."""
        for pipe in self._open:
            waited.register(pipe.fileno(), select.POLLIN)
        if self._to_send:
            waited.register(self._stdin.fileno(), select.POLLOUT)

    def order(self, word: dict[str, Any]) -> None:
        self._to_send += json.dumps(word).encode() + b"\n"

    def turn(self) -> tuple[list[dict[str, Any]], bool]:
        """Read and write what is possible; return the agent's messages, and True if ssh has ended."""
        if self._to_send:
            try:
                self._to_send = self._to_send[os.write(self._stdin.fileno(), self._to_send) :]
            except BlockingIOError:
                pass
            except OSError:
                self._to_send = b""
        for pipe in list(self._open):
            piece = _read(pipe.fileno())
            if piece == b"":
                self._open.remove(pipe)
            elif piece and pipe is self._err:
                self._stderr = (self._stderr + piece)[-MOST_STDERR:]
            elif piece:
                self._rest += piece
        *lines, self._rest = self._rest.split(b"\n")
        messages = [word for line in lines if (word := command.message(line)) is not None]
        return messages, not self._open or self._process.poll() is not None

    def close(self, host: str) -> str:
        """End ssh, and return why it has ended."""
        with contextlib.suppress(OSError):
            self._stdin.close()  # the agent ends, and with it ssh
        try:
            self._process.wait(END_S if self._process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr += _read(self._err.fileno()) or b""
        for pipe in (self._stdout, self._err):
            pipe.close()
        return command.reason(host, self._process.returncode, self._stderr)


def _read(fd: int) -> bytes | None:
    """Return what can be read; b"" at the end, None if nothing is there yet."""
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class RemoteHub:
    """The shell of a SshLauncher: the loop that runs ssh and performs the commands.

    Parameters
    ----------
    parameters
        Those of the cluster, whose core runs on this computer.
    host, python
        The computer, and the command that runs Python there.
    arguments
        The options of `nblb hub` there, such as --workers.
    presence
        The lock of this role, beside which the file LEFT is written.
    differs
        A sentence on what is missing there, for the notes of the cluster.
    """

    def __init__(
        self,
        parameters: Parameters,
        host: str,
        python: str,
        arguments: list[str],
        presence: RoleLock,
        differs: str = "",
    ) -> None:
        self._parameters, self._python, self._arguments = parameters, python, arguments
        self._presence = presence
        self._differs = differs
        presence.say(host=host)
        self._launcher = SshLauncher(command.check_host(host))
        self._ssh: SshProcess | None = None
        self._finish: Finish | None = None
        self._wants_stop = False
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        _, core = one_shot.find(parameters)
        place = f"{core.about.get('core') if core is not None else ''} {host} {presence.path.name}"
        self._name = f"hub-{hashlib.blake2b(place.encode(), digest_size=6).hexdigest()}"

    @property
    def _left_file(self) -> Path:
        return self._presence.path.with_suffix(LEFT)

    def stop(self) -> None:
        """End the hub and this loop; from a signal handler."""
        self._wants_stop = True
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"s")

    def run(self) -> Finish:
        """Keep the hub until it has ended or `stop`; return how that went."""
        launcher = self._launcher
        self._perform(launcher.start(monotonic()))
        while self._finish is None:
            self._wait(launcher.next_deadline())
            now = monotonic()
            if self._wants_stop and not launcher.stopping:
                self._perform(launcher.stop(now))
                self._write_left(launcher.left())
            if self._ssh is not None and self._finish is None:
                messages, has_ended = self._ssh.turn()
                for word in messages:
                    self._perform(launcher.agent_said(word, now))
                if has_ended and self._ssh is not None:
                    self._perform(launcher.ssh_ended(self._hang_up(), now))
            self._perform(launcher.tick(now))
        self._write_left(self._finish.left)
        return self._finish

    def _wait(self, deadline: float | None) -> None:
        waited = select.poll()
        waited.register(self._wake_read, select.POLLIN)
        if self._ssh is not None:
            self._ssh.register(waited)
        waited.poll(None if deadline is None else max(0.0, deadline - monotonic()) * 1000 + 1)
        _read(self._wake_read)

    def _perform(self, commands: list[Command]) -> None:
        for each in commands:
            match each:
                case Dial(start, log_at):
                    self._dial(start, log_at)
                case HangUp():
                    was = self._ssh is not None
                    reason = self._hang_up()
                    if was:
                        self._perform(self._launcher.ssh_ended(reason, monotonic()))
                case Order(word):
                    if self._ssh is not None:
                        self._ssh.order(word)
                case ShowLog(text):
                    _write(text)
                case Note(text, is_trouble):
                    _write(f"WKHUB - {text}\n")
                    if is_trouble:
                        self._presence.say(trouble=text)
                case HubKnown(host, pid):
                    self._presence.say(hub=f"{host}-{pid}", trouble=self._differs)
                case Finish():
                    self._finish = each

    def _dial(self, start: bool, log_at: int) -> None:
        socket = local_address(runtime_folder(self._parameters), "hubs").removeprefix(SCHEME)
        tunnel = f"/tmp/nblb-{os.urandom(8).hex()}.sock"
        about = {
            "name": self._name,
            "tunnel": tunnel,
            "log_at": log_at,
            "start": start,
            "arguments": self._arguments,
            "parameters": self._parameters_there(),
        }
        program = command.agent_program("serve", about)
        try:
            self._ssh = SshProcess(command.run(self._launcher.host, self._python, program, (tunnel, socket)), program)
        except OSError as error:
            self._perform(self._launcher.ssh_ended(f"ssh cannot be run: {error.strerror or error}", monotonic()))

    def _parameters_there(self) -> dict[str, Any]:
        """Return the parameters for the hub: without what is meant for this computer alone."""
        settings = self._parameters.as_dict()
        settings["LB_NAME"] = self._parameters.name
        for key in ("WKHUB_HOSTS", "MONITOR_AUTH", "LB_STATE_DIR"):
            settings.pop(key, None)
        return settings

    def _hang_up(self) -> str:
        ssh, self._ssh = self._ssh, None
        return ssh.close(self._launcher.host) if ssh is not None else ""

    def _write_left(self, sentence: str) -> None:
        """Record what may still run on the other computer, for the process that stops the cluster."""
        with contextlib.suppress(OSError):
            if sentence:
                self._left_file.write_text(sentence)
            else:
                self._left_file.unlink()


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text)
        sys.stdout.flush()
