"""The command line: `nblb COMMAND`, and the processes of a cluster (`python -m nblb core|hub|…`).

A command is a function in one of MODULES, each of which adds its commands with `register(commands)`; a new group of
commands is a new module in that list.

Exit codes: 0 success, 1 failure, 2 wrong command line, 3 no load balancer answers, 4 a core runs there already.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from nblb._version import __version__
from nblb.errors import JournalLocked, LoadBalancerUnreachable, NblbError
from nblb.launch import joined_option
from nblb.user_text import clean

MODULES = (
    "cluster",
    "results",
    "top",
    "access",
    "roles",
    "service",
    "doctor",
    "report",
    "demo",
    "bench",
    "simulate",
    "completion",
)

LONGEST = 20_000  # characters of an error, which may contain the end of a log
WRONG, UNREACHABLE, RUNS_ALREADY = 1, 3, 4
EPILOG = "exit codes: 0 as it should be, 1 not so, 2 a wrong command, 3 no load balancer answers, 4 a core runs already"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    commands = parser()
    options = commands.parse_args(joined_option.joined(words, "--slurm"))
    if not hasattr(options, "run"):  # `nblb` alone
        commands.print_help()
        return 0
    try:
        return int(options.run(options) or 0)
    except LoadBalancerUnreachable as error:
        return _complain(error, UNREACHABLE)
    except JournalLocked as error:
        return _complain(error, RUNS_ALREADY)
    except NblbError as error:
        return _complain(error, WRONG)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `nblb jobs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python reports the broken pipe again at exit
        return 0


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(prog="nblb", description="A lab cluster that lives in your notebook.", epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"nblb {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for module in MODULES:
        import_module(f"nblb.cli.{module}").register(commands)
    return top


def _complain(error: NblbError, code: int) -> int:
    print(f"nblb: {clean(str(error), LONGEST)}", file=sys.stderr)
    return code
