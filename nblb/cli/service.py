"""The command that keeps a cluster up with systemd: `nblb service install|uninstall|status`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nblb.access.private_file import make_private_folder, write_private
from nblb.cli.command import Commands, add, count, settings, show, table, users
from nblb.errors import NblbError
from nblb.host import account
from nblb.launch.service.systemd import Systemd, UnitState, life_sentences
from nblb.launch.service.unit_file import ROLES, ServiceUnit, unit_name
from nblb.system import isolated_python
from nblb.system.core_file import find_core_file
from nblb.system.private_folder import with_connection

if TYPE_CHECKING:
    from nblb.parameters import Parameters

PLACES = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "NBLB_RUNTIME_DIR")  # variables that say where a cluster's files are
COMMANDS = {"core": ("core",), "hub": ("hub",), "monitor": ("monitor",), "health": ("health", "--watch")}


def register(commands: Commands) -> None:
    command = add(commands, "service", service, "have systemd start a core or a hub with the computer", data=True)
    command.add_argument("action", choices=("install", "uninstall", "status"))
    command.add_argument("--user", action="store_true", help="units of this account (default, but for root)")
    command.add_argument("--system", action="store_true", help="units of the computer, which only root can install")
    command.add_argument(
        "--role",
        action="append",
        choices=ROLES,
        default=[],
        help="what to install: core (default), hub (default with --cluster), monitor, health",
    )
    command.add_argument("--account", default="", metavar="NAME", help="with --system: the account that runs it")
    command.add_argument("--listen", metavar="ADDRESS", help="for a core: listen there, instead of LB_IP")
    command.add_argument("--workers", type=count, metavar="N", help="for a hub: its workers in all")
    command.add_argument("--only", type=users, default=[], metavar="NAME,NAME", help="for a hub: whose tasks it runs")
    command.add_argument("--no-start", action="store_true", help="enable the units, and do not start them now")


def service(options: argparse.Namespace) -> int:
    """Install, remove or show the systemd units of a cluster: for its core here, or a hub of a cluster elsewhere.

    Without systemd, install writes the unit and says how to enable it.
    """
    if options.user and options.system:
        raise NblbError("--user and --system exclude each other; give one of them")
    systemd = Systemd(options.system or (os.geteuid() == 0 and not options.user))
    is_elsewhere = bool(options.cluster or options.connect)  # then only a hub of it can be here
    parameters = settings(options, "hub" if is_elsewhere else "")
    if options.action == "status":
        return _status(options, parameters)
    if options.action == "uninstall":
        return _uninstall(options, parameters, systemd)
    return _install(options, parameters, systemd)


def _install(options: argparse.Namespace, parameters: Parameters, systemd: Systemd) -> int:
    there = bool(with_connection(parameters, "hub").connection) if options.cluster or options.connect else False
    roles = options.role or (["hub"] if there else ["core"])
    if there and roles != ["hub"]:
        raise NblbError("the core of that cluster runs on another computer; only a hub of it can be installed here")
    begin, sentences = not options.no_start, list[str]()
    core = None if there else find_core_file(parameters)
    if begin and core is not None and not core.stale:
        begin = False
        sentences.append(
            f"a core of {parameters.name!r} runs already (pid {core.pid}), so nothing was started: run 'nblb stop', "
            f"then {'systemctl' if systemd.is_system else 'systemctl --user'} start "
            f"{unit_name(parameters.name, roles[0])}"
        )
    done = []
    for role in roles:
        unit = _unit(options, parameters, role, systemd, roles)
        path, notes = systemd.install(unit, begin)
        done.append({"unit": unit.name, "path": str(path)})
        sentences += notes
    units = [UnitState(each["unit"], Path(each["path"]), systemd.is_system) for each in done]
    sentences += life_sentences(units, account())
    said = {"installed": done, "notes": sentences}
    show(options, said, lambda: "\n".join([*(f"installed {each['path']}" for each in done),
                                           *(f"note      {sentence}" for sentence in sentences)]))  # fmt: skip
    return 0


def _unit(
    options: argparse.Namespace, parameters: Parameters, role: str, systemd: Systemd, roles: list[str]
) -> ServiceUnit:
    words = [*COMMANDS[role], *_source(options, parameters, role)]
    if role == "hub":
        words += ["--workers", str(options.workers)] if options.workers is not None else []
        words += ["--only", ",".join(options.only)] if options.only else []
    owner = options.account or os.environ.get("SUDO_USER") or account() if systemd.is_system else ""
    own = not systemd.is_system or owner == account()
    return ServiceUnit(
        cluster=parameters.name,
        role=role,
        command=isolated_python.command("nblb", words),
        is_system=systemd.is_system,
        account=owner if owner != "root" else "",
        environment={name: os.environ[name] for name in PLACES if own and name in os.environ},
        needs_core=role != "core" and "core" in roles,
    )


def _source(options: argparse.Namespace, parameters: Parameters, role: str) -> list[str]:
    """Return the options with which the process finds its settings: files, whose paths are absolute."""
    words = []
    if options.listen and role != "hub":
        folder = make_private_folder(parameters.state_dir.parent / "services")
        file = folder / f"{parameters.name}.json"
        content = parameters.changed(LB_IP=options.listen, LB_NAME=parameters.name).as_dict()
        write_private(file, json.dumps(content, indent=1).encode())
        words += ["--parameters", str(file)]
    elif options.parameters:
        words += ["--parameters", str(Path(options.parameters).absolute())]
    if options.connect:
        words += ["--connect", str(Path(options.connect).absolute())]
    elif options.cluster:
        words += ["--cluster", options.cluster]
    return words


def _uninstall(options: argparse.Namespace, parameters: Parameters, systemd: Systemd) -> int:
    names = [unit_name(parameters.name, role) for role in options.role or ROLES]
    removed = [name for name in names if systemd.uninstall(name)]
    none = f"no unit of {parameters.name!r} is installed in {systemd.folder}"
    show(options, {"removed": removed}, lambda: "\n".join(f"removed {name}" for name in removed) or none)
    return 0 if removed else 1


def _status(options: argparse.Namespace, parameters: Parameters) -> int:
    found = [unit for is_system in (False, True) for unit in Systemd(is_system).units(_named(options, parameters))]
    why = Systemd(True).why_not_here()
    rows: list[dict[str, Any]] = [
        {
            "unit": unit.name,
            "of": "the computer" if unit.is_system else account(),
            "enabled": unit.enabled or "unknown",
            "active": unit.active or "unknown",
            "path": str(unit.path),
        }
        for unit in found
    ]
    sentences = [why] if why else []
    sentences += life_sentences(found, account())
    show(options, {"units": rows, "notes": sentences}, lambda: _status_text(rows, sentences))
    return 0 if found and all(unit.active in ("active", "") for unit in found) else 1


def _named(options: argparse.Namespace, parameters: Parameters) -> str:
    return parameters.name if options.parameters or options.cluster or options.connect else ""


def _status_text(rows: list[dict[str, Any]], sentences: list[str]) -> str:
    columns = ("unit", "of", "enabled", "active", "path")
    lines = [table(rows, columns, "no unit of nblb is installed; 'nblb service install' installs one")]
    return "\n".join([*lines, *(f"note      {sentence}" for sentence in sentences)])
