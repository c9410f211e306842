"""The process of the bulk door, as a child of the core: it ends with the core, however that ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path

from nblb.system import isolated_python
from nblb.system.private_folder import private_folder

START_S = 20.0
END_S = 2.0


class BulkProcess:
    """The bulk door of a core; `port` is 0 if it could not be started, and `trouble` says why."""

    def __init__(self, state_dir: Path, ip: str, port: int, log: Path) -> None:
        self.port, self.trouble = 0, ""
        private_folder(log.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(log, flags, 0o600), "ab") as output:
            self._process = subprocess.Popen(
                isolated_python.command("nblb.transport.bulk.door", [str(state_dir), ip, str(port)]),
                stdin=subprocess.PIPE,  # its end is that of this process
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=state_dir,
                env=isolated_python.environment(),
                start_new_session=True,
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_S)
        said = self._process.stdout.readline().decode("utf-8", "replace").strip() if ready else ""
        if said.isdecimal():
            self.port = int(said)
        else:
            self.trouble = (
                f"large buffers of other computers go through the core, slowly: the bulk door on port {port} "
                f"(WKHUB_LBPORT) did not start; {log} says why"
            )
            self.close()

    @property
    def pid(self) -> int:
        """The pid of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
