"""Compares another computer with this process before a hub starts there, and makes an environment if nblb is missing.

Functions travel by value, so Python's minor version must be equal, and the packages should be.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shlex
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nblb._version import PACKAGE_FOLDER, __version__
from nblb.errors import NblbError
from nblb.launch.ssh import remote_agent
from nblb.launch.ssh.command import answer

PROBE_S = 30.0
MAKE_S = 900.0  # packages may be built
MOST_PYTHONS = 5  # that are asked on one computer
SHOWN = ("cloudpickle", "numpy")
Ask = Callable[[str, str, dict[str, Any], float], dict[str, Any]]  # python, action, about, timeout_s


@dataclass(frozen=True)
class Difference:
    """A row of the table: what is compared, its version here and there, and what follows if they differ."""

    what: str
    here: str
    there: str
    remark: str = ""


@dataclass(frozen=True)
class Computer:
    """Another computer as its probe has reported it.

    `python` is the command for its interpreter; `rows` has all that is compared, equal or not.
    """

    host: str
    python: str
    cores: int
    nblb: str
    version: tuple[int, ...]
    rows: tuple[Difference, ...]
    others: tuple[str, ...] = ()

    @property
    def differences(self) -> tuple[Difference, ...]:
        return tuple(row for row in self.rows if row.here != row.there)

    @property
    def suits(self) -> bool:
        """True if a hub there can run functions of this process."""
        return bool(self.nblb) and self.version[:2] == sys.version_info[:2]


def look(host: str, python: str = "", make_venv: bool = False, ask: Ask | None = None) -> Computer:
    """Return what a hub on this computer would have.

    Parameters
    ----------
    host
        The computer, as for ssh.
    python
        The command that runs Python there; "" tries `python3` and then the other interpreters that are found.
    make_venv
        True makes a virtual environment there with the versions of this process, if no interpreter suits.
    ask
        Runs an action of the agent there; command.answer by default.

    Raises
    ------
    NblbError
        The computer cannot be reached, or nblb is missing there and `make_venv` is False.
    """
    ask = ask or (lambda *question: answer(host, *question))
    first = _probe(host, python or "python3", ask)
    best = first
    others = () if python else first.others
    for other in sorted(others, key=lambda path: environment_name() not in path)[:MOST_PYTHONS]:
        if best.suits:
            break
        found = _probe(host, shlex.quote(other), ask)
        best = found if found.suits or (found.nblb and not best.nblb) else best
    if best.suits or (best.nblb and not make_venv):
        return best
    if make_venv:
        return _probe(host, _made(host, first, ask), ask)
    raise NblbError(
        f"nblb is not installed for {first.python} on {host}:\n{table(first)}\n"
        f"--make-venv (make_venv=True) makes a virtual environment there, with nblb {__version__} and the versions of "
        "this process; --python COMMAND (python=) names another interpreter there"
    )


def _probe(host: str, python: str, ask: Ask) -> Computer:
    said = ask(python, "probe", {}, PROBE_S)
    try:
        theirs = {name: str(said["packages"].get(name, "")) for name in SHOWN}
        version = tuple(int(number) for number in said["python"])
        return Computer(
            host=host,
            python=python,
            cores=int(said["cores"] or 1),
            nblb=str(said["nblb"]),
            version=version,
            rows=compared(version, str(said["nblb"]), theirs),
            others=tuple(str(path) for path in said["others"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NblbError(f"the probe on {host} has an answer that is not understood: {error!r}") from None


def compared(python: tuple[int, ...], their_nblb: str, theirs: dict[str, str]) -> tuple[Difference, ...]:
    """Return the rows of the table, from the versions there."""
    same_minor = python[:2] == sys.version_info[:2]
    remark = "" if same_minor else "functions of this process cannot run there"
    rows = [Difference("Python", _dotted(sys.version_info[:3]), _dotted(python), remark)]
    rows.append(Difference("nblb", __version__, their_nblb, "must be installed" if not their_nblb else ""))
    for name in SHOWN:
        here, there = remote_agent.package_version(name), theirs[name]
        rows.append(Difference(name, here, there, _package_remark(name, here, there)))
    return tuple(rows)


def _package_remark(name: str, here: str, there: str) -> str:
    if here and not there:
        return "tasks that need it fail there"
    if here.partition(".")[0] != there.partition(".")[0] and here:
        return f"objects that contain {name}'s may not be understood"
    return ""


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def table(computer: Computer) -> str:
    """Return the comparison as one table; equal rows have no remark."""
    cells = [("", "here", computer.host, "")]
    for row in computer.rows:
        remark = "" if row.here == row.there else row.remark or "differs"
        cells.append((row.what, row.here or "none", row.there or "none", remark))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def trouble(computer: Computer) -> str:
    """Return a sentence on the differences that make tasks fail; "" if there are none."""
    found = [
        f"{row.what} is {row.there or 'missing'}, here {row.here or 'missing'}: {row.remark}" for row in computer.rows
    ]
    serious = [text for text, row in zip(found, computer.rows, strict=True) if row.here != row.there and row.remark]
    return f"on {computer.host} " + "; ".join(serious) if serious else ""


def summary(computer: Computer) -> str:
    """Return the table if something differs, else a sentence."""
    if computer.differences:
        return table(computer)
    return f"{computer.host}: {computer.cores} cores; Python, nblb, {' and '.join(SHOWN)} are the same as here"


# ── an environment there ──


def _made(host: str, computer: Computer, ask: Ask) -> str:
    """Make an environment on that computer, and return its Python."""
    minor = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    same = [path for path in computer.others if path.endswith(f"/{minor}")]
    if computer.version[:2] != sys.version_info[:2] and not same:
        raise NblbError(
            f"{host} has no {minor}, which this process runs, so no environment for its functions can be made there; "
            "install it, or name it with --python COMMAND (python=)"
        )
    python = computer.python if computer.version[:2] == sys.version_info[:2] else shlex.quote(same[0])
    about = {"name": environment_name(), "requirements": requirements(), "archive": archive()}
    said = ask(python, "make", about, MAKE_S)
    if "made" not in said:
        raise NblbError(
            f"no environment could be made on {host}: {said.get('failed', 'no answer')} ended with:\n"
            f"{said.get('output', '')}"
        )
    return shlex.quote(str(said["made"]))


def requirements() -> list[str]:
    """Return the packages that nblb needs and their versions here, as requirements of pip."""
    versions = {name: remote_agent.package_version(name) for name in remote_agent.PACKAGES}
    return [f"{name}=={version}" for name, version in versions.items() if version]


def environment_name() -> str:
    """Return the name of the environment with this nblb and these versions."""
    content = "\n".join([*requirements(), *(f"{path}:{path.stat().st_size}" for path in _sources())])
    mark = hashlib.blake2b(content.encode(), digest_size=4).hexdigest()
    return f"nblb-{__version__}-python{sys.version_info[0]}.{sys.version_info[1]}-{mark}"


def archive() -> str:
    """Return the package nblb of this process, as base64 of a gzipped tar file."""
    packed = io.BytesIO()
    root = Path(PACKAGE_FOLDER)
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for path in _sources():
            file.add(path, arcname=str(Path("nblb") / path.relative_to(root)), filter=_without_owner)
    return base64.b64encode(packed.getvalue()).decode()


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _sources() -> list[Path]:
    root = Path(PACKAGE_FOLDER)
    return sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
