"""nblb and its peers on the same work, each case in a fresh process, interleaved over repeats.

    python -m tests.benchmarks.run [--systems nblb,processpool,…] [--cases latency,submit,…] [--repeats 3]
                                   [--json FILE] [--markdown FILE]

Prints medians with their spread, and ratios against nblb. Nothing here fails by time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ONE = """
import json, sys
from tests.benchmarks import cases
system_name, case = sys.argv[1:]
if case == "startup":
    figures = cases.startup(system_name)
else:
    from tests.benchmarks.systems import SYSTEMS
    # tasks as in a notebook: functions of __main__, which travel by value
    for name in ("noop", "pid", "spin", "total"):
        getattr(cases, name).__module__ = "__main__"
        globals()[name] = getattr(cases, name)
    system = SYSTEMS[system_name]()
    try:
        figures = cases.CASES[case](system)
    finally:
        system.close()
print("FIGURES " + json.dumps(figures))
"""


def one(system: str, case: str, timeout_s: float) -> dict[str, float] | str:
    """The figures of one run, or why there are none."""
    try:
        run = subprocess.run(
            [sys.executable, "-c", ONE, system, case], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    for line in run.stdout.splitlines():
        if line.startswith("FIGURES "):
            figures: dict[str, float] = json.loads(line[8:])
            return figures
    last = (run.stderr.strip().splitlines() or ["no output"])[-1]
    return "n/a" if "NotImplementedError" in last or "PicklingError" in last else f"failed: {last[:100]}"


def main() -> None:
    from tests.benchmarks.cases import CASES
    from tests.benchmarks.systems import SYSTEMS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--systems", default=",".join(s for s in SYSTEMS if s != "ray"))
    parser.add_argument("--cases", default=",".join(["startup", *CASES]))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one run")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    systems, cases = args.systems.split(","), args.cases.split(",")
    found: dict[str, dict[str, list[dict[str, float]]]] = {case: {s: [] for s in systems} for case in cases}
    notes: dict[tuple[str, str], str] = {}
    for _ in range(args.repeats):
        for case in cases:
            for system in systems:
                if (case, system) in notes:
                    continue
                figures = one(system, case, args.timeout)
                if isinstance(figures, str):
                    notes[case, system] = figures
                else:
                    found[case][system].append(figures)
                print(f"{case:18} {system:12} {figures}", file=sys.stderr, flush=True)
    table = render(found, notes)
    print(table)
    if args.markdown:
        args.markdown.write_text(table + "\n")
    if args.json:
        args.json.write_text(json.dumps({"figures": found, "notes": {"/".join(k): v for k, v in notes.items()}}))


def render(found: dict[str, dict[str, list[dict[str, float]]]], notes: dict[tuple[str, str], str]) -> str:
    """A Markdown table a case: median [min-max], and how many times nblb's median that is."""
    lines = []
    for case, by_system in found.items():
        names = list(dict.fromkeys(name for runs in by_system.values() for run in runs for name in run))
        lines += [f"\n**{case}**\n", "| system | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        ours = by_system.get("nblb") or []
        for system, runs in by_system.items():
            if not runs:
                lines.append(f"| {system} | {notes.get((case, system), '')} |" + " |" * (len(names) - 1))
                continue
            cells = []
            for name in names:
                values = [run[name] for run in runs if name in run]
                if not values:
                    cells.append("")
                    continue
                middle = statistics.median(values)
                cell = f"{middle:,.4g} [{min(values):,.4g} - {max(values):,.4g}]"
                base = [run[name] for run in ours if name in run]
                if base and system != "nblb":
                    cell += f" ({middle / statistics.median(base):.2f}x)"
                cells.append(cell)
            lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
