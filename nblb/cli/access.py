"""Commands about who may connect: `nblb invite`, `nblb join`, `nblb users`, `nblb hubs`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from nblb import quantities
from nblb.access.key_store import ROLES
from nblb.access.limits import QUOTAS
from nblb.cli.command import Commands, add, count, duration, settings, share, show, size, table
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
    _add_limits(command)
    command.add_argument("--group", help="set: the group whose share and limits the user is in; '' for none")
    command.add_argument("--reason", default="", help="revoke: what its owner is told")
    command = add(commands, "groups", groups, "list groups of users; set the share and the limits of one", data=True)
    command.add_argument("action", nargs="?", choices=("list", "set"), default="list", help="of the groups")
    command.add_argument("name", nargs="?", default="", help="which group")
    _add_limits(command)
    command = add(commands, "hubs", hubs, "list hubs; list or revoke their keys; drain or remove one", data=True)
    actions = ("list", "revoke", "drain", "undrain", "remove")
    command.add_argument("action", nargs="?", choices=actions, help="of the keys, or of a hub")
    command.add_argument("name", nargs="?", default="", help="of the key, or of the hub")
    command.add_argument("--reason", default="", help="revoke: what the hub is told")


def _add_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument("--share", type=share, help="set: twice the share, twice the workers while others wait (1)")
    command.add_argument("--max-queued", type=count, metavar="N", help="set: waiting tasks that compete; 0: no limit")
    command.add_argument("--max-running", type=count, metavar="N", help="set: workers that are occupied at once")
    command.add_argument("--max-bytes", type=size, metavar="SIZE", help="set: stored bytes: 500MB, 2GB; 0: no limit")


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
        columns = ("user", "queued", "running", "done", "failed", "used_s", *_limit_columns(rows))
        show(options, rows, lambda: table(_shown(rows), columns, "nobody has sent a task yet"))
        return 0
    if options.action == "list":
        return _list(options, "users")
    about: dict[str, Any] = {"of": "users", "name": _named(options)}
    if options.action == "revoke":
        about["reason"] = options.reason
        return _changed(options, "revoke", about)
    about |= {"role": options.role, "lives_s": options.expires, "group": options.group, **_limits(options)}
    return _set(options, about)


def groups(options: argparse.Namespace) -> int:
    """List the groups of users, or set the share and the limits of one.

    Workers are shared first between groups, then between the users of each; 'nblb users set NAME --group GROUP' puts a
    user into a group.
    """
    if options.action == "set":
        return _set(options, {"of": "groups", "name": _named(options), **_limits(options)})
    rows = _administer(options, "parties", {"of": "groups"})
    columns = ("name", "share", "max_queued", "max_running", "max_bytes", "users")
    shown = [{**row, "users": ", ".join(row["users"])} for row in _shown(rows)]
    show(
        options, rows, lambda: table(shown, columns, "there is no group; 'nblb users set NAME --group GROUP' makes one")
    )
    return 0


def _limits(options: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(options, key) for key in ("share", *QUOTAS)}


def _set(options: argparse.Namespace, about: dict[str, Any]) -> int:
    answer = _administer(options, "set", {key: value for key, value in about.items() if value is not None})
    name = about["name"]
    if isinstance(answer, int):
        show(options, {"changed": answer}, lambda: f"{name}: {answer} {'key' if answer == 1 else 'keys'} changed")
        return 0
    (row,) = _shown([answer])
    texts = [f"share {answer['share']:g}", *(f"{key.replace('_', '-')} {row[key]}" for key in QUOTAS if answer[key])]
    if answer["group"]:
        texts.append(f"group {answer['group']}")
    new = "; no user is in it so far" if about["of"] == "groups" else "; has no key, and has sent no task so far"
    show(options, answer, lambda: f"{name}: {', '.join(texts)}{'' if answer['known'] else new}")
    return 0


def _limit_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the columns of shares and limits, if anybody has others than the default."""
    rows = list(rows)
    used = [key for key in ("group", *QUOTAS) if any(row.get(key) for row in rows)]
    return ["share", *used] if used or any(row.get("share", 1.0) != 1.0 for row in rows) else []


def _shown(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with limits as people read them: nothing for none."""
    texts = {"max_queued": "{:,}".format, "max_running": "{:,}".format, "max_bytes": quantities.size}
    return [{**row, **{key: text(row[key]) if row.get(key) else "" for key, text in texts.items()}} for row in rows]


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
    columns = ("name", "role", "state", "connected", "until", *_limit_columns(rows))
    shown = _shown(shown)
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
