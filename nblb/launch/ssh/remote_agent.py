"""The program that `ssh` runs on the other computer: it reports what is there, and starts, watches and ends a hub.

Its source is sent through ssh (command.py), because nblb may be missing there. So it imports the standard library only,
and runs on Python 3.8. It writes one JSON object for each line of its output. A hub outlives the agent that started it:
the next agent finds it by the files in the hub's folder.

    /tmp/nblb-UID/NAME/   hubs.local    the end of the tunnel, which the hub dials
                          hub.log       the output of the hub
                          hub.pid       its pid and the time of its start
                          hub.exit      its exit code, written when it has ended
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

PACKAGES = ("cloudpickle", "numpy", "msgspec", "pyzmq", "platformdirs", "psutil")
LOOK_S = 0.1
START_S = 20.0  # in which the process of a hub begins
EXIT_S = 2.0  # in which the keeper of a hub writes its exit code
LOG_PIECE = 60_000
TUNNEL_S = 300.0  # an end of a tunnel that no agent has moved by then is left over
KEPT_S = 3600.0  # how long the folder of a hub that ended without an agent stays
# The first code of the hub's process: it records its pid and the time of its start, both of which exec keeps.
STARTER = """
import os, sys
sys.path[:] = [entry for entry in sys.path if entry]
try:
    with open('/proc/self/stat', 'rb') as file:
        began = file.read().rpartition(b')')[2].split()[19].decode()
except OSError:
    began = '?'
path = sys.argv[1]
with open(path + '.new', 'w') as file:
    file.write('%d %s' % (os.getpid(), began))
os.rename(path + '.new', path)
from nblb.system import isolated_python
os.environ[isolated_python.TASKS] = isolated_python.for_tasks()
words = isolated_python.command('nblb', sys.argv[2:])
os.execve(words[0], words, isolated_python.environment())
"""
KEEPER = '"$@" >>"$0/hub.log" 2>&1 </dev/null; echo $? >"$0/hub.end" && mv "$0/hub.end" "$0/hub.exit"'


def say(**word: object) -> None:
    """Write one message to the launcher."""
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


# ── what is there ──


def probe() -> None:
    """Report the versions of Python and of the packages, and the other interpreters that could be used."""
    say(
        python=list(sys.version_info[:3]),
        executable=sys.executable,
        nblb=nblb_version(),
        packages={name: package_version(name) for name in PACKAGES},
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        host=platform.node(),
        others=other_pythons(),
    )


def nblb_version() -> str:
    """Return the version of nblb that this interpreter imports; "" for none. Only the file with its number is run."""
    spec = find_spec("nblb")
    if spec is None or spec.origin is None:
        return ""
    try:
        found = run_path(str(Path(spec.origin).with_name("_version.py")))
    except OSError:
        return ""
    return str(found.get("__version__", ""))


def package_version(name: str) -> str:
    try:
        return str(version(name) or "")
    except PackageNotFoundError:
        return ""


def other_pythons() -> list[str]:
    """Return the interpreters of environments that were made here, and those on the path with a version."""
    found = sorted(environments_folder().glob("*/bin/python"), reverse=True)
    found += [Path(shutil.which(f"python3.{minor}") or "/nonexistent") for minor in range(10, 15)]
    return [str(path) for path in found if path.exists()]


def environments_folder() -> Path:
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path("~/.local/share").expanduser()) / "nblb" / "environments"


# ── an environment with the same versions ──


def make_environment(name: str, requirements: list[str], archive: str) -> None:
    """Make a virtual environment with these requirements and the nblb in the archive, base64 of a gzipped tar file."""
    folder = environments_folder() / name
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        site = "import sysconfig; print(sysconfig.get_path('purelib'))"
        output = ""
        for step in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *requirements],
            [str(python), "-c", site],
        ):
            done = subprocess.run(
                step, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            output = done.stdout.decode("utf-8", "replace").strip()
            if done.returncode:
                shutil.rmtree(folder, ignore_errors=True)
                say(failed=" ".join(step[:4]), output=output[-2000:])
                return
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive)), mode="r:gz") as packed:
            packed.extractall(output.splitlines()[-1])
        complete.touch()
    say(made=str(python))


# ── the hub ──


class Serving:
    """One hub, from the side of its computer, while the connection lasts."""

    def __init__(self, name: str, tunnel: str, log_at: int) -> None:
        self.base = Path(f"/tmp/nblb-{os.getuid()}")
        self.folder = self.base / name
        self.tunnel = Path(tunnel)
        self.log_at = log_at
        self.grace_s: float | None = None  # how long the hub has for its end, once it is to end
        self.is_cut = False

    def serve(self, start: bool, arguments: list[str], parameters: dict[str, object]) -> None:
        """Start the hub if `start`, or find it running, and report until it has ended or the connection is lost."""
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            own_folder(self.base)
            own_folder(self.folder)
            self.tunnel.rename(self.folder / "hubs.local")
        except OSError as error:
            with contextlib.suppress(OSError):
                self.tunnel.unlink()
            say(failed=f"the folder {self.folder} cannot be used: {error.strerror or error}")
            return
        sweep(self.base, self.folder)
        sweep_tunnels(Path("/tmp"))
        pid = found = self._running()
        if start and not pid and self.grace_s is None:
            pid = self._start(arguments, parameters)
        if pid:
            say(hub=pid, found=bool(found), host=platform.node())
        self._watch(pid)

    def _start(self, arguments: list[str], parameters: dict[str, object]) -> int:
        """Start the hub in a session of its own, and return its pid; 0 if it has ended at once."""
        for name in ("hub.pid", "hub.exit", "hub.log"):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        settings = self.folder / "parameters.json"
        settings.touch(mode=0o600)
        settings.write_text(json.dumps({**parameters, "LB_STATE_DIR": str(self.folder / "state")}))
        (self.folder / "hub.log").touch(mode=0o600)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        environment["NBLB_RUNTIME_DIR"] = str(self.folder)
        environment.pop("NBLB_TASKS", None)
        words = ["hub", "--parameters", str(settings), "--core", f"unix://{self.folder}/hubs.local", *arguments]
        home = Path("~").expanduser()
        subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                KEEPER,
                str(self.folder),
                sys.executable,
                "-u",
                "-c",
                STARTER,
                str(self.folder / "hub.pid"),
                *words,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home if home.is_dir() else "/",
            env=environment,
            start_new_session=True,
        )
        until = time.monotonic() + START_S
        while time.monotonic() < until and not (self.folder / "hub.exit").exists():
            pid = self._running()
            if pid:
                return pid
            time.sleep(0.02)
        return 0

    def _watch(self, pid: int) -> None:
        """Report the log until the hub has ended; end it if the launcher orders so."""
        killed_at = 0.0
        while not self.is_cut:
            self._report_log()
            if not self._running():
                self._end(pid)
                return
            if self.grace_s is not None:
                now = time.monotonic()
                number = signal.SIGTERM if not killed_at else signal.SIGKILL if now >= killed_at else 0
                killed_at = killed_at or now + self.grace_s
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            time.sleep(LOOK_S)

    def _end(self, pid: int) -> None:
        """Report the end of the hub, and remove its folder."""
        exit_code = self.folder / "hub.exit"
        until = time.monotonic() + (EXIT_S if pid else 0.0)
        while not exit_code.exists() and time.monotonic() < until:
            time.sleep(0.02)
        self._report_log()
        code = read(exit_code).strip()
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # the folder of another hub may be in it
            self.base.rmdir()
        say(ended=True, code=int(code) if code.isdigit() else None, left=self.folder.exists())

    def _report_log(self) -> None:
        with contextlib.suppress(OSError), (self.folder / "hub.log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            self.log_at = self.log_at if self.log_at <= size else 0  # it was cut short meanwhile
            while self.log_at < size:
                file.seek(self.log_at)
                piece = file.read(LOG_PIECE)
                self.log_at += len(piece)
                say(log=piece.decode("utf-8", "replace"), at=self.log_at)

    def _running(self) -> int:
        """Return the pid of the hub if it runs; 0 if it does not. A pid that another process has now does not count."""
        words = read(self.folder / "hub.pid").split()
        if len(words) != 2 or not words[0].isdigit():
            return 0
        return int(words[0]) if began(int(words[0])) == words[1] else 0

    def _listen(self) -> None:
        """Take the launcher's orders; the end of the input is the end of the connection."""
        for line in sys.stdin.buffer:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self.grace_s = float(json.loads(line.decode("utf-8"))["stop"])
        self.is_cut = True


def began(pid: int) -> str:
    """Return a text that differs for two processes with the same pid; "" if none has it, "?" where it is unknown."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] == b"Z" else fields[19].decode()
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass  # it is another account's
    return "?"


def own_folder(path: Path) -> None:
    """Make the folder if it is missing, for this account only; refuse one of another account."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(1, "it is a link or belongs to another account")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def sweep(base: Path, own: Path) -> None:
    """Remove the folders of hubs that ended long ago, while no agent was connected."""
    for path in base.iterdir():
        with contextlib.suppress(OSError):
            if path != own and time.time() - (path / "hub.exit").stat().st_mtime > KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


def sweep_tunnels(folder: Path) -> None:
    """Remove the ends of tunnels of this account whose ssh was lost before its agent ran; sshd leaves them."""
    for path in folder.glob("nblb-*.sock"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > TUNNEL_S:
                path.unlink()


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def main(action: str, about: dict[str, object]) -> None:
    """Do what the launcher has asked for."""
    sys.path[:] = [entry for entry in sys.path if entry]
    actions = {"probe": probe, "make": make_environment, "serve": serve}
    with contextlib.suppress(BrokenPipeError):  # the connection is lost: the next agent goes on
        actions[action](**about)  # type: ignore[operator]
    os._exit(0)  # its thread may still wait for input


def serve(
    name: str, tunnel: str, log_at: int, start: bool, arguments: list[str], parameters: dict[str, object]
) -> None:
    Serving(name, tunnel, log_at).serve(start, arguments, parameters)
