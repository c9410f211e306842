"""The settings of a cluster: parameters.json, read once, checked whole, and frozen.

All other modules get a `Parameters` object; no other module reads a settings file. The defaults are in the file
parameters.json beside this module. The types below define the allowed values, so that an error can name the file, the
key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from nblb.access import connection_file
from nblb.errors import ParametersError
from nblb.host import cores, socket_folder
from nblb.protocol.equipment import MOST_FEATURES, MOST_NAME, Equipment
from nblb.protocol.messages import Group, split_workers
from nblb.user_text import clean

__all__ = ["Parameters", "WorkerGroup", "load"]

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Parameters | None"
AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)

Address = Annotated[str, Meta(min_length=1, description="an IP address or the name of a computer")]
Port = Annotated[int, Meta(ge=0, le=65535, description="a port: a whole number from 1 to 65535, or 0 for any free one")]
Seconds = Annotated[float, Meta(gt=0, le=1e9, description="a number of seconds above 0")]
Keep = Annotated[float, Meta(ge=0, le=1e9, description="a number of seconds, 0 or more")]
Priority = Annotated[float, Meta(ge=-1e308, le=1e308, description="a finite number")]
Count = Annotated[int, Meta(ge=0, le=10**9, description="a whole number, 0 or more")]
Positive = Annotated[int, Meta(ge=1, le=10**9, description="a whole number, 1 or more")]

SHIPPED = Path(__file__).with_name("parameters.json")
WHOLE_BAND = (0.0, 1000.0)
PROCESSES, DASK = "processes", "dask"  # engines with names


class WorkerGroup(msgspec.Struct, frozen=True):
    """One entry of WKHUB_WORKERS: workers with the same settings and one band of priorities."""

    nWorkers: Annotated[
        Annotated[int, Meta(ge=0, le=100_000)] | Literal["auto"],
        Meta(description='a whole number of workers, 0 or more, or "auto" for one per core'),
    ]
    minP: Priority = WHOLE_BAND[0]
    maxP: Priority = WHOLE_BAND[1]
    processP: Annotated[
        int, Meta(ge=-20, le=20, description="a niceness: a whole number from -20 (first) to 20 (last)")
    ] = 0
    engine: Annotated[
        str, Meta(pattern=r"^([a-z]+|[\w.]+:[\w.]+)$", description='"processes", "dask" or "module:callable"')
    ] = "processes"
    options: Annotated[dict[str, Any], Meta(description="an object of options for the engine or the launcher")] = {}
    launcher: Annotated[
        Literal["", "slurm"], Meta(description='"slurm" for hubs that Slurm runs, or "" for the hub on this computer')
    ] = ""
    env: Annotated[dict[str, str], Meta(description="an object of environment variables, each value a text")] = {}
    memory_mb: Annotated[int, Meta(ge=0, description="a whole number of MB for one worker, 0 for no limit")] = 0
    max_rss_mb: Annotated[int, Meta(ge=0, description="a whole number of MB, 0 for no limit")] = 0
    max_tasks_per_worker: Annotated[int, Meta(ge=0, description="a whole number of tasks, 0 for no limit")] = 0
    only: Annotated[
        Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)] | None,
        Meta(description="a list of the names of at least one user, or null for all users of the cluster"),
    ] = None
    run_as: Annotated[
        Literal["hub", "submitter"],
        Meta(description='"hub" for the account of the hub, or "submitter" for the account of each task\'s user'),
    ] = "hub"
    features: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^\S+$", max_length=MOST_NAME)], ...],
        Meta(max_length=MOST_FEATURES, description='a list of names without spaces, such as ["avx512", "matlab"]'),
    ] = ()
    gpus: Annotated[
        Annotated[float, Meta(ge=0, le=1024)]
        | Literal["auto"]
        | Annotated[tuple[Annotated[int, Meta(ge=0)] | Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)],
        Meta(description='a number of GPUs for each worker (1, or 0.5 for a half), "auto", or a list of cards'),
    ] = 0.0
    reserved: Annotated[
        bool | None, Meta(description="true, false, or null: true for workers with GPUs, false for others")
    ] = None
    polite: Annotated[bool, Meta(description="true to leave cards alone that others use, or false")] = False

    @property
    def has(self) -> Equipment:
        """What each of its workers has, as far as the settings say."""
        reserved = self.reserved if self.reserved is not None else bool(self.gpus)
        gpus = self.gpus if isinstance(self.gpus, (int, float)) else 1.0  # the hub divides its cards (hub/gpus.py)
        return Equipment(float(gpus), self.memory_mb, tuple(sorted(set(self.features))), reserved)

    @property
    def is_apart(self) -> bool:
        """True if it is not part of the hub on this computer: it has a launcher, or an engine of its own."""
        return bool(self.launcher) or self.engine != PROCESSES


class BatchOptions(msgspec.Struct, frozen=True):
    """The `options` of a group whose launcher is a batch system."""

    sbatch: Annotated[str, Meta(description="a text with options of sbatch")] = ""
    hubs: Annotated[int, Meta(ge=1, le=10_000, description="a whole number of hubs, 1 or more")] = 1
    backlog: Annotated[int, Meta(ge=1, le=10_000, description="a whole number of waiting jobs, 1 or more")] = 4


class RemoteHost(msgspec.Struct, frozen=True):
    """One entry of WKHUB_HOSTS: a computer that is reached by SSH, and the hub on it."""

    host: Annotated[
        str,
        Meta(pattern=r"^[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]*$", description="a name for ssh, such as user@machine"),
    ]
    workers: Annotated[
        Annotated[int, Meta(ge=0, le=100_000)] | None,
        Meta(description="a whole number of workers, 0 or more, or null for those of WKHUB_WORKERS"),
    ] = None
    python: Annotated[str, Meta(description="the command that runs Python there")] = ""


class Parameters(msgspec.Struct, frozen=True):
    """All settings under their names in parameters.json.

    `source` names their origin; `connection` is the path of a connection file, if the core is on another computer.
    """

    SOCKET_TIMEOUT: Annotated[int, Meta(ge=1, le=86_400_000, description="a whole number of ms, 1 or more")]
    LB_IP: Address
    LB_WKPULLPORT: Port
    LB_HCREPPORT: Port
    LB_CLIENTPULLPORT: Port
    LB_QUEING_MAXPERUSER: Annotated[int, Meta(ge=0, description="a whole number of tasks, 0 for no bound")]
    WKHUB_IP: Address
    WKHUB_LBPORT: Port
    WKHUB_HCPORT: Port
    WKHUB_WORKERS: Annotated[tuple[WorkerGroup, ...], Meta(description="a list of groups of workers")]
    WKHUB_HOSTS: Annotated[tuple[RemoteHost, ...], Meta(description="a list of computers that are reached by SSH")]
    WKHUB_MAX_STANDINS: Count
    MONITOR_IP: Address
    MONITOR_PORT: Port
    MONITOR_AUTH: Annotated[str, Meta(description='a text: "" or what the Monitor asks for at the login')]
    LB_NAME: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="up to 64 letters, digits, '.', '_' and '-'")
    ]
    LB_STATE_DIR: Annotated[str, Meta(description="the path of a folder")]
    LB_DURABILITY: Annotated[Literal["process", "full", "none"], Meta(description='"process", "full" or "none"')]
    LB_SECURITY: Annotated[Literal["on", "none"], Meta(description='"on" or "none"')]
    LB_RESULT_TTL_S: Keep
    LB_JOB_TTL_S: Keep
    LB_MAX_CRASHES: Positive
    LB_FAIR_HALFLIFE_S: Seconds
    LB_AGEING_S: Keep
    LB_PREFETCH_MS: Annotated[float, Meta(ge=0, le=1e6, description="a number of ms, 0 or more")]
    LB_HEARTBEAT_S: Seconds
    LB_SUSPECT_S: Seconds
    LB_LEASE_S: Seconds
    LB_ORPHAN_S: Keep
    LB_IDLE_TIMEOUT_S: Keep
    LB_CANCEL_GRACE_S: Keep
    LB_MAX_MESSAGE_MB: Positive
    LB_OUTPUT_MB: Annotated[int, Meta(ge=0, le=10**6, description="a whole number of MB, 0 to keep none")]
    LB_OUTPUT_TOTAL_MB: Annotated[int, Meta(ge=0, le=10**9, description="a whole number of MB, 0 or more")]
    LB_ON_JOB_END: Annotated[
        str, Meta(max_length=4000, description='a text: "", a command, or an address that begins with http')
    ]
    LB_ON_INTERRUPT: Annotated[Literal["detach", "cancel", "kill"], Meta(description='"detach", "cancel" or "kill"')]
    LB_SHOW_WAIT_S: Keep
    source: str = "defaults"
    connection: str = ""

    @property
    def name(self) -> str:
        """The cluster's name for users."""
        return self.LB_NAME or f"lab-{self.LB_CLIENTPULLPORT}"

    @property
    def lease_s(self) -> float:
        """The length of a hub's lease from its last heartbeat, so that a cut takes effect within LB_LEASE_S.

        If only the other direction is cut, heartbeats may still arrive for nearly one beat; a quarter of a beat is
        left for the reaction.
        """
        return max(self.LB_LEASE_S - 1.25 * self.LB_HEARTBEAT_S, self.LB_SUSPECT_S)

    @property
    def state_dir(self) -> Path:
        """The folder of the data that must survive: journal, blobs, logs."""
        if self.LB_STATE_DIR:
            return Path(self.LB_STATE_DIR)
        import platformdirs  # takes a few ms, which a client with an LB_STATE_DIR saves

        return platformdirs.user_state_path("nblb", appauthor=False) / self.name

    @property
    def runtime_dir(self) -> Path:
        """The private folder of the running cluster's sockets; it follows from the state folder and LB_NAME alone.

        NBLB_RUNTIME_DIR names another place for it, which then every process of the cluster must have.
        """
        given = os.environ.get("NBLB_RUNTIME_DIR")
        if not given:
            return socket_folder(self.state_dir, self.name)
        mark = hashlib.blake2b(os.fsencode(self.state_dir.absolute()), digest_size=4).hexdigest()
        return Path(given).absolute() / f"{self.name[:24]}-{mark}"

    @property
    def connection_file(self) -> Path:
        """The file in which a running core records its process and its addresses."""
        return self.runtime_dir / "core.json"

    def worker_groups(self) -> tuple[WorkerGroup, ...]:
        """Return WKHUB_WORKERS, or the one default group if it is empty."""
        return self.WKHUB_WORKERS or (WorkerGroup(nWorkers="auto"),)

    def here(self) -> Parameters:
        """Return the settings of the hub of this computer: without the groups that have hubs of their own.

        If all groups have one, a group without workers is left.
        """
        own = tuple(group for group in self.WKHUB_WORKERS if not group.is_apart)
        if len(own) == len(self.WKHUB_WORKERS):
            return self
        return msgspec.structs.replace(self, WKHUB_WORKERS=own or (WorkerGroup(nWorkers=0),))

    def batch_options(self, index: int) -> BatchOptions:
        """Return the options of a group of WKHUB_WORKERS whose launcher is a batch system."""
        return _fill(BatchOptions, self.WKHUB_WORKERS[index].options, self.source, f"WKHUB_WORKERS[{index}].options")

    def groups(self, workers: int | None = None) -> tuple[Group, ...]:
        """Return the groups of a hub on this machine, with "auto" resolved.

        `workers` changes only the total number of workers, which is split over the groups in proportion to their
        configured numbers (messages.split_workers); bands, niceness and limits stay.
        """
        if workers is not None and (type(workers) is not int or workers < 0):
            raise ParametersError(f"workers is {workers!r}; it must be a whole number, 0 or more.")
        wanted = self.worker_groups()
        sizes = [cores() if group.nWorkers == "auto" else group.nWorkers for group in wanted]
        if workers is not None:
            sizes = split_workers(workers, sizes)
        return tuple(
            Group(
                workers=size,
                minP=g.minP,
                maxP=g.maxP,
                processP=g.processP,
                engine=g.engine,
                max_tasks=g.max_tasks_per_worker,
                only=tuple(dict.fromkeys(g.only or ())),
                run_as=g.run_as,
                has=g.has,
            )
            for g, size in zip(wanted, sizes, strict=True)
        )

    def admitting(self, only: Sequence[str]) -> Parameters:
        """Return the settings for a hub that runs only tasks of these users; unchanged if there are none."""
        if not only:
            return self
        groups = [msgspec.structs.replace(group, only=tuple(only)) for group in self.worker_groups()]
        return self.changed(WKHUB_WORKERS=groups)

    def without_secrets(self) -> Parameters:
        """Return the settings for a process of another account: without passwords and what they may be part of."""
        defaults = _check(_read(SHIPPED), self.source)
        return msgspec.structs.replace(
            self, MONITOR_AUTH=defaults.MONITOR_AUTH, LB_ON_JOB_END=defaults.LB_ON_JOB_END, WKHUB_WORKERS=()
        )

    def of_group(self, index: int) -> Parameters:
        """Return the settings of a hub that has only this group of WKHUB_WORKERS, as processes of its own."""
        group = msgspec.structs.replace(self.WKHUB_WORKERS[index], launcher="", engine=PROCESSES, options={})
        return msgspec.structs.replace(self, WKHUB_WORKERS=(group,))

    def changed(self, **changes: Any) -> Parameters:
        """Return the settings with these changes, checked like those of a file."""
        changed = _check({**self.as_dict(), **changes}, self.source)
        return msgspec.structs.replace(changed, connection=self.connection)

    def as_dict(self) -> dict[str, Any]:
        """Return all settings in the form of a file."""
        settings: dict[str, Any] = msgspec.to_builtins(self)
        del settings["source"], settings["connection"]
        return settings


EXAMPLES: dict[type, str] = {
    WorkerGroup: 'an object like {"nWorkers": 4, "minP": 0, "maxP": 9, "processP": 0}',
    RemoteHost: 'a name for ssh or an object like {"host": "user@machine", "workers": 8, "python": "python3"}',
}


def load(source: Source = None) -> Parameters:
    """Load the parameters of a file or a mapping, completed with the defaults; None gives the defaults alone.

    A connection file, or the name of a cluster that this account has joined, gives those of that cluster.

    Raises
    ------
    ParametersError
        A setting is wrong; the sentence names the file, the key, the value and what is allowed.
    """
    if isinstance(source, Parameters):
        return source
    defaults = _read(SHIPPED)
    if source is None:
        return _check(defaults, "defaults")
    if isinstance(source, Mapping):
        return _check({**defaults, **source}, "parameters")
    if isinstance(source, (str, os.PathLike)):
        path = _joined(str(source)) or Path(source).expanduser()
        if connection_file.is_one(path):
            return connected(path)
        return _check({**defaults, **_read(path)}, str(path), path.absolute().parent)
    raise ParametersError(f"parameters must be a path or a dict, and this is {_shown(source)}.")


def _joined(source: str) -> Path | None:
    """Return the connection file of a cluster of this name; None if this is the path of a file.

    Raises ParametersError for a name that is neither.
    """
    if os.sep in source or source.endswith(".json") or Path(source).exists():
        return None
    files = connection_file.known()
    if source in files:
        return files[source]
    raise ParametersError(
        f"{source}: cannot be read as a parameters file, and this account has joined no cluster of that name (joined: "
        f"{', '.join(files) or 'none'}); {connection_file.HOW_TO_JOIN}."
    )


def connected(path: Path) -> Parameters:
    """Return the parameters of the cluster that a connection file names.

    Raises
    ------
    ParametersError
        It cannot be read.
    NotAllowed
        Other accounts can read it.
    """
    import platformdirs

    found = connection_file.read(path)
    state_dir = platformdirs.user_state_path("nblb", appauthor=False) / "remote" / path.stem  # apart from a core's here
    settings = _read(SHIPPED) | {
        "LB_NAME": found.cluster,
        "LB_IP": found.host,
        "LB_CLIENTPULLPORT": found.clients,
        "LB_WKPULLPORT": found.hubs,
        "LB_HCREPPORT": 0,
        "LB_STATE_DIR": str(state_dir),
    }
    return msgspec.structs.replace(_check(settings, str(path)), connection=str(found.path))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ParametersError(f"{path}: cannot be read as a parameters file: {reason}.") from None

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ParametersError(f"{path}: {key} occurs twice; keep one.")
            found[key] = value
        return found

    def no_number(word: str) -> NoReturn:
        raise ParametersError(f"{path}: {word} is not allowed; every number must be finite.")

    try:
        settings = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except json.JSONDecodeError as error:
        raise ParametersError(
            f"{path}: is not JSON: {error.msg[0].lower()}{error.msg[1:]}, line {error.lineno} column {error.colno}."
        ) from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, ParametersError):
            raise
        raise ParametersError(f"{path}: is not valid JSON: {error}.") from None
    if not isinstance(settings, dict):
        raise ParametersError(f"{path}: must contain one JSON object, {{...}}, and contains {_shown(settings)}.")
    return settings


def _check(settings: Mapping[str, Any], source: str, folder: Path | None = None) -> Parameters:
    settings = dict(settings)
    groups = settings.get("WKHUB_WORKERS")
    if isinstance(groups, (list, tuple)):
        settings["WKHUB_WORKERS"] = tuple(
            _fill(WorkerGroup, group, source, f"WKHUB_WORKERS[{index}]") for index, group in enumerate(groups)
        )
    hosts = settings.get("WKHUB_HOSTS")
    if isinstance(hosts, (list, tuple)):
        settings["WKHUB_HOSTS"] = tuple(
            _fill(RemoteHost, {"host": host} if isinstance(host, str) else host, source, f"WKHUB_HOSTS[{index}]")
            for index, host in enumerate(hosts)
        )
    for key in ("source", "connection"):
        if key in settings:
            _unknown(key, Parameters, source, "")
    parameters = _fill(Parameters, settings, source, "")
    if parameters.LB_STATE_DIR:  # absolute, since detached processes run in other folders
        state_dir = (folder or Path.cwd()) / Path(parameters.LB_STATE_DIR).expanduser()
        parameters = msgspec.structs.replace(parameters, LB_STATE_DIR=os.path.normpath(state_dir))
        _check_text(parameters.LB_STATE_DIR, source)
    _check_together(parameters, source)
    return msgspec.structs.replace(parameters, source=source)


def _check_text(folder: str, source: str) -> None:
    """Refuse a folder name that is not clean text, because messages contain paths below the state folder."""
    shown = clean(folder, len(folder))
    if shown != folder or "\n" in folder:
        raise ParametersError(
            f"{source}: LB_STATE_DIR is {shown!r}, which has bytes or control characters that are not text; choose "
            "another folder."
        )


def _fill(kind: type[AnyStruct], given: Any, source: str, where: str) -> AnyStruct:
    """Return a struct of this kind from a mapping, with each value checked under its own name."""
    if isinstance(given, kind):
        given = msgspec.structs.asdict(given)
    if not isinstance(given, Mapping):
        raise ParametersError(f"{source}: {where} is {_shown(given)}; it must be {EXAMPLES.get(kind, 'an object')}.")
    prefix = f"{where}." if where else ""
    hints = _hints(kind)
    values = {}
    for key, value in given.items():
        if key not in hints:
            _unknown(key, kind, source, where)
        try:
            values[key] = msgspec.convert(value, hints[key])
        except (msgspec.ValidationError, OverflowError):
            allowed = next(m.description for m in reversed(hints[key].__metadata__) if m.description)
            raise ParametersError(f"{source}: {prefix}{key} is {_shown(value)}; it must be {allowed}.") from None
    try:
        return kind(**values)
    except TypeError:
        missing = next(f.name for f in msgspec.structs.fields(kind) if f.required and f.name not in values)
        raise ParametersError(f"{source}: {prefix}{missing} is missing.") from None


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _unknown(key: Any, kind: type[msgspec.Struct], source: str, where: str) -> NoReturn:
    known = [f.name for f in msgspec.structs.fields(kind) if f.name not in ("source", "connection")]
    by_folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(str(key).casefold(), by_folded, n=1, cutoff=0.5)
    hint = f"did you mean {by_folded[close[0]]}?" if close else f"the keys are {', '.join(known)}."
    raise ParametersError(f"{source}: {_shown(key)[:80]} is not a key{f' of {where}' if where else ''}; {hint}")


def _check_together(parameters: Parameters, source: str) -> None:
    """Check the rules that involve several values."""
    for index, group in enumerate(parameters.WKHUB_WORKERS):
        if group.engine not in (PROCESSES, DASK) and ":" not in group.engine:
            raise ParametersError(
                f"{source}: WKHUB_WORKERS[{index}].engine is {_shown(group.engine)}; there are "
                '"processes", "dask", and "module:callable" for what returns a concurrent.futures.Executor.'
            )
        if group.launcher and group.engine != PROCESSES:
            raise ParametersError(
                f"{source}: WKHUB_WORKERS[{index}] has a launcher and an engine; a group has one of them at most."
            )
        if group.launcher:
            parameters.batch_options(index)
        elif group.options and group.engine == "processes":
            raise ParametersError(
                f"{source}: WKHUB_WORKERS[{index}].options is {_shown(group.options)}, and the engine "
                '"processes" has no options; leave the key out.'
            )
        if group.minP > group.maxP:
            raise ParametersError(
                f"{source}: WKHUB_WORKERS[{index}].minP is {group.minP:g} and maxP is {group.maxP:g}; "
                "minP must not be above maxP."
            )
    if not parameters.LB_HEARTBEAT_S < parameters.LB_SUSPECT_S < parameters.LB_LEASE_S:
        raise ParametersError(
            f"{source}: LB_HEARTBEAT_S ({parameters.LB_HEARTBEAT_S:g}), LB_SUSPECT_S ({parameters.LB_SUSPECT_S:g}) and "
            f"LB_LEASE_S ({parameters.LB_LEASE_S:g}) must each be above the one before."
        )
    taken: list[tuple[str, str, int]] = []
    for key in ("LB_WKPULLPORT", "LB_HCREPPORT", "LB_CLIENTPULLPORT", "WKHUB_LBPORT", "WKHUB_HCPORT", "MONITOR_PORT"):
        port, ip = getattr(parameters, key), getattr(parameters, f"{key.split('_')[0]}_IP")
        for other, other_ip, other_port in taken:
            if port and port == other_port and _same_machine(ip, other_ip):
                raise ParametersError(f"{source}: {key} and {other} are both {port}; each needs a port of its own.")
        taken.append((key, ip, port))


def _same_machine(one: str, other: str) -> bool:
    one, other = ("127.0.0.1" if ip == "localhost" else ip for ip in (one, other))
    everywhere = {"0.0.0.0", "::", "*"}
    return one == other or one in everywhere or other in everywhere


def _shown(value: Any) -> str:
    """Return a value as JSON, at most one line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
