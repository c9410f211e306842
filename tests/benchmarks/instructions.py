"""Counts of the CPU instructions that the paths of trips.py take, which are stable where times are not.

    python -m tests.benchmarks.instructions          print the counts beside the recorded numbers
    python -m tests.benchmarks.instructions --keep   record them for this interpreter, in instructions.json

One process under valgrind imports everything. Each count is the difference between two of its children, one of which
runs more units of a workload than the other, so that imports, set-up and warm-up cancel out. Sources of randomness
(hash seeds, garbage collection) are switched off. The rest depends on the build of the interpreter and of the C
libraries, so numbers are recorded for each build, and compared only within it.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.trips import WORKLOADS

if TYPE_CHECKING:
    from tests.benchmarks.trips import Work

KEPT = Path(__file__).with_suffix(".json")
TOLERANCE = 0.10  # allowed growth; runs differ by less than 1 %, and small useful additions may cost something
WARM = 50  # units of warm-up, at most as many as are counted
PLANTED = "session_task"  # counted a second time, with planted extra work
PLANT = 20  # iterations of an empty loop for each unit
AGAIN = "python -m tests.benchmarks.instructions --keep"


def build() -> str:
    """The builds of the interpreter and libraries, on which the numbers depend besides nblb."""
    made, compiler = platform.python_build()[1], platform.python_compiler()
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("cloudpickle", "msgspec"))
    return (
        f"{platform.python_implementation()} {platform.python_version()} {platform.machine()} ({compiler}, {made}), "
        f"{libraries}, SQLite {sqlite3.sqlite_version}"
    )


def kept() -> dict[str, int]:
    """The recorded numbers of this build; empty if there are none."""
    found: dict[str, int] = json.loads(KEPT.read_text())["builds"].get(build(), {})
    return found


def keep(counts: dict[str, int]) -> None:
    stored = json.loads(KEPT.read_text()) if KEPT.exists() else {"unit": "instructions per unit", "builds": {}}
    stored["builds"][build()] = counts
    KEPT.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def more(counts: dict[str, int], before: dict[str, int]) -> dict[str, float]:
    """The workloads that exceed their allowance, with their growth."""
    grown = {name: counts[name] / number - 1 for name, number in before.items() if name in counts}
    return {name: growth for name, growth in grown.items() if growth > TOLERANCE}


def count(timeout_s: float = 600.0) -> dict[str, int]:
    """The instructions per unit of each workload, and of the planted one."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is not installed (Debian's package has this name)")
    with tempfile.TemporaryDirectory(prefix="nblb-instructions-") as folder:
        command = [valgrind, "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder}/%p", "--quiet"]
        command += [sys.executable, "-m", "tests.benchmarks.instructions", "--beneath"]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2], start_new_session=True,
        )  # fmt: skip
        try:
            said, complained = process.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # also kills its children
            process.communicate()
            raise
        if process.returncode:
            raise RuntimeError(f"valgrind ended with {process.returncode}: {complained[-2000:]}")
        children: dict[str, tuple[int, int, int]] = json.loads(said.splitlines()[-1])
        return {
            name: round((_instructions(folder, many) - _instructions(folder, few)) / units)
            for name, (few, many, units) in children.items()
        }


def _instructions(folder: str, pid: int) -> int:
    (line,) = (line for line in (Path(folder) / str(pid)).read_text().splitlines() if line.startswith("summary:"))
    return int(line.split()[1])


def beneath() -> None:
    """Run in the counted process: start two children for each workload, and print their pids."""
    gc.disable()
    children = {}
    for name in (*WORKLOADS, "planted"):
        _, units = WORKLOADS[PLANTED if name == "planted" else name]
        few, many = _child(name, units, 0), _child(name, units, units)
        for pid in (few, many):
            if os.waitpid(pid, 0)[1]:
                raise RuntimeError(f"the workload {name} has failed")
        children[name] = few, many, units
    print(json.dumps(children))


def _child(name: str, all_units: int, units: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work = _planted(WORKLOADS[PLANTED][0]()) if name == "planted" else WORKLOADS[name][0]()
        work(min(WARM, all_units))
        if units:
            work(units)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _planted(honest: Work) -> Work:
    def work(units: int) -> None:
        honest(units)
        for _ in range(units):
            for _ in range(PLANT):
                pass

    return work


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.instructions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--keep", action="store_true", help="record them for this interpreter")
    parser.add_argument("--beneath", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.beneath:
        beneath()
        return
    before, counts = kept() if KEPT.exists() else {}, count()
    print(build())
    for name, number in counts.items():
        was = before.get(name)
        print(f"{name:16} {number:10,}" + (f"  {number / was - 1:+7.1%} of {was:,}" if was else ""))
    if given.keep:
        del counts["planted"]
        keep(counts)


if __name__ == "__main__":
    main()
