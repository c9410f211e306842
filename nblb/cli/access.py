"""Commands about who may connect: `nblb invite`, `nblb join`, `nblb users`, `nblb hubs`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from nblb.access.key_store import ROLES
from nblb.cli.command import Commands, add, duration, settings, show, table
from nblb.errors import NblbError
from nblb.launch import one_shot


def register(commands: Commands) -> None:
    command = add(commands, "invite", invite, "print the line with which somebody can join this cluster", data=True)
    command.add_argument("name", help="the name of the person, or of the hub's computer")
    command.add_argument("--role", choices=ROLES, default="user", help="what the key may do (user)")
    command.add_argument("--expires", type=duration, default=3600.0, metavar="TIME",
                         help="how long the line can be used: 30m, 1h, 7d (1h)")  # fmt: skip
    command.add_argument("--host", default="", help="how others reach this computer, if not by LB_IP")
    command = add(commands, "join", join, "join a cluster on another computer with an invitation", parameters=False)
    command.add_argument("line", nargs="?", default="-", help="the line that 'nblb invite' prints; - reads it (-)")
    command.add_argument("--name", default="", help="the cluster's name here, if not its own")
    command = add(commands, "users", users, "list users and their tasks; list, revoke or set their keys", data=True)
    command.add_argument("action", nargs="?", choices=("list", "revoke", "set"), help="of the keys")
    command.add_argument("name", nargs="?", default="", help="whose key")
    command.add_argument("--role", choices=("user", "viewer", "admin"), help="set: the key's role")
    command.add_argument("--expires", type=duration, metavar="TIME", help="set: when the key ends: 30d; 0: never")
    command.add_argument("--reason", default="", help="revoke: what its owner is told")
    command = add(commands, "hubs", hubs, "list hubs; list or revoke their keys; drain or remove one", data=True)
    actions = ("list", "revoke", "drain", "undrain", "remove")
    command.add_argument("action", nargs="?", choices=actions, help="of the keys, or of a hub")
    command.add_argument("name", nargs="?", default="", help="of the key, or of the hub")
    command.add_argument("--reason", default="", help="revoke: what the hub is told")


def invite(options: argparse.Namespace) -> int:
    """Print the line with which one person, or one hub's computer, can join this cluster once."""
    about = {"name": options.name, "role": options.role, "lives_s": options.expires, "host": options.host}
    said = _administer(options, "invite", about)
    show(options, said, lambda: f"nblb join {said['line']}")
    if not options.json:
        print(f"for {options.name}, once, until {_time(said['until'])}; whoever has the line can use it",
              file=sys.stderr)  # fmt: skip
    return 0


def join(options: argparse.Namespace) -> int:
    """Make this account's key, enrol it with an invitation, and write the connection file.

    Give the line on standard input where other accounts can see the arguments of processes.
    """
    from nblb.transport.curve.enrol import join as join_cluster
    from nblb.transport.curve.keys import slowness

    line = sys.stdin.readline() if options.line == "-" else options.line
    joined = join_cluster(line, options.name)
    name = joined.path.name.removesuffix(".json").removesuffix(".hub")
    print(f"joined {joined.cluster} at {joined.host} as {joined.role} {joined.name!r}; its key is in {joined.path}")
    how = f"nblb hub --cluster {name}" if joined.role == "hub" else f'%lb_start {name}, lb.connect("{name}")'
    print(f"use it with: {how}")
    if slow := slowness():
        print(f"note: {slow}")
    return 0


def users(options: argparse.Namespace) -> int:
    """List the users of the cluster and their tasks; with an action, list or change their keys."""
    if options.action is None:
        rows = one_shot.ask(_address(options), "users")
        columns = ("user", "queued", "running", "done", "failed", "used_s")
        show(options, rows, lambda: table(rows, columns, "nobody has sent a task yet"))
        return 0
    if options.action == "list":
        return _list(options, "users")
    about: dict[str, Any] = {"of": "users", "name": _named(options)}
    if options.action == "revoke":
        about["reason"] = options.reason
    else:
        about |= {"role": options.role or "", "lives_s": options.expires}
    return _changed(options, options.action, about)


def hubs(options: argparse.Namespace) -> int:
    """List the hubs of the cluster; with an action, list or revoke their keys, or drain or remove a hub.

    A drained hub finishes what it runs, and gets no new work until it is undrained; a removed one stops after that.
    """
    if options.action is None:
        rows = one_shot.ask(_address(options), "hubs")
        columns = ("name", "host", "ip", "state", "workers", "busy", "pid")
        show(options, rows, lambda: table(rows, columns, "no hub is connected"))
        return 0
    if options.action == "list":
        return _list(options, "hubs")
    if options.action != "revoke":
        left = one_shot.retire_hub(_address(options), _named(options), options.action)
        show(options, {options.action: options.name, "left": left}, lambda: _retired(options, left))
        return 0
    return _changed(options, "revoke", {"of": "hubs", "name": _named(options), "reason": options.reason})


def _retired(options: argparse.Namespace, left: int) -> str:
    if options.action == "undrain":
        return f"{options.name} gets work again"
    then = ", and stops after that" if options.action == "remove" else ""
    return f"{options.name} gets no new work; it finishes the {left} pieces of work that it has{then}"


def _list(options: argparse.Namespace, which: str) -> int:
    rows = _administer(options, "parties", {"of": which})
    shown = [{**row, "until": _time(row["until"]) if row["until"] else ""} for row in rows]
    columns = ("name", "role", "state", "connected", "until")
    show(options, rows, lambda: table(shown, columns, "nobody has a key; 'nblb invite NAME' invites somebody"))
    return 0


def _changed(options: argparse.Namespace, action: str, about: dict[str, Any]) -> int:
    number = _administer(options, action, about)
    what = "revoked" if action == "revoke" else "changed"
    keys = "key" if number == 1 else "keys"
    show(options, {what: number}, lambda: f"{about['name']}: {number} {keys} {what}")
    return 0


def _named(options: argparse.Namespace) -> str:
    if not options.name:
        raise NblbError(f"'nblb {options.command} {options.action}' needs a name")
    return str(options.name)


def _administer(options: argparse.Namespace, action: str, about: dict[str, Any]) -> Any:
    return one_shot.administer(_address(options), action, about)


def _address(options: argparse.Namespace) -> str:
    return one_shot.find(settings(options))[0]


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
