"""`nblb completion`: prints the code with which a shell completes nblb's commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from nblb.cli.command import Commands, add

HOW = {
    "bash": 'eval "$(nblb completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(nblb completion zsh)" in ~/.zshrc, behind compinit',
    "tcsh": "nblb completion tcsh > ~/.nblb.tcsh, and 'source ~/.nblb.tcsh' in ~/.tcshrc",
}


def register(commands: Commands) -> None:
    what = "print the code with which a shell completes commands and options"
    command = add(commands, "completion", completion, what, parameters=False)
    command.add_argument("shell", choices=tuple(HOW), help="; ".join(f"{shell}: {how}" for shell, how in HOW.items()))


def completion(options: argparse.Namespace) -> int:
    """Print the code with which a shell completes nblb's commands, options and file names.

    For bash put eval "$(nblb completion bash)" into ~/.bashrc.
    """
    import shtab

    from nblb import cli

    top = cli.parser()
    for action in _actions(top):
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # which is how shtab is told
    print(shtab.complete(top, shell=options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments of a parser and of those of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
