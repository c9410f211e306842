"""Connection files: what a party knows of a core on another computer, its own key pair included.

`nblb join` writes them, mode 0600, to `clusters` in the account's configuration folder, where they are found by the
cluster's name; a hub's file is `NAME.hub.json`, so that a person and a hub of one account have different keys.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nblb.access.join_line import bracketed
from nblb.access.key_store import ROLES, Role
from nblb.access.private_file import make_private_folder, read_private, write_private
from nblb.access.secret import Secret
from nblb.errors import NotAllowed, ParametersError

log = logging.getLogger("nblb")

FORMAT = 1
SEPARATOR = "#"  # between an address and the connection file that has its keys
SUFFIX, HUB_SUFFIX = ".json", ".hub.json"
HOW_TO_JOIN = (
    "ask the cluster's owner for the line that 'nblb invite NAME' prints, and run 'nblb join LINE' on this computer"
)


_told: set[Path] = set()  # refused files that this process has warned of


@dataclass(frozen=True)
class ConnectionFile:
    """The addresses and keys for one party of one cluster."""

    cluster: str
    role: Role
    name: str  # of the party, as the core knows it
    host: str  # of the core, as this computer reaches it
    clients: int  # ports
    hubs: int
    server_key: str
    public_key: str
    secret_key: Secret = field(repr=False)
    core: str = ""  # id of the cluster
    refused: str = ""  # why the core has refused this key when it was used last; "" if it has not
    path: Path = Path()

    @property
    def door(self) -> str:
        """The door of the core at which this party connects."""
        return "hubs" if self.role == "hub" else "clients"

    def address(self, door: str = "") -> str:
        """Return the address to dial: the core's, and after SEPARATOR the path of this file.

        `door` is "clients" for a task on a hub that submits tasks; else it follows from the role.
        """
        port = self.hubs if (door or self.door) == "hubs" else self.clients
        return f"tcp://{bracketed(self.host)}:{port}{SEPARATOR}{self.path}"

    def save(self, path: Path) -> ConnectionFile:
        """Write the file; return it with its path."""
        make_private_folder(path.parent)
        content = {
            "nblb": FORMAT,
            "cluster": self.cluster,
            "core": self.core,
            "role": self.role,
            "name": self.name,
            "host": self.host,
            "clients": self.clients,
            "hubs": self.hubs,
            "server_key": self.server_key,
            "public_key": self.public_key,
            "secret_key": self.secret_key.reveal(),
            **({"refused": self.refused} if self.refused else {}),
        }
        write_private(path, json.dumps(content, indent=1).encode())
        return ConnectionFile(**{**self.__dict__, "path": path})

    def note_refusal(self, reason: str) -> None:
        """Record in the file why the core refuses this key, or with "" that it does not; keeps the file's age.

        Of several files for one core, one that was refused is the last choice (`of_host`).
        """
        with contextlib.suppress(OSError, NotAllowed, ParametersError):  # removed meanwhile, or on a full disk
            now = read(self.path)
            if now.public_key == self.public_key and bool(now.refused) != bool(reason):
                age = self.path.stat()
                replace(now, refused=reason).save(self.path)
                os.utime(self.path, ns=(age.st_atime_ns, age.st_mtime_ns))


def folder() -> Path:
    """Return the folder of this account's connection files."""
    import platformdirs  # imported only by those who look there

    return platformdirs.user_config_path("nblb", appauthor=False) / "clusters"


def path_of(cluster: str, role: str) -> Path:
    """Return the path of the file for this cluster and role."""
    return folder() / f"{cluster}{HUB_SUFFIX if role == 'hub' else SUFFIX}"


def read(path: Path) -> ConnectionFile:
    """Return the connection file.

    Raises
    ------
    NotAllowed
        Other accounts can read it.
    ParametersError
        There is none, or it is not a connection file.
    """
    try:
        text = read_private(path, "The connection file", "have its key revoked and join anew")
    except NotAllowed:  # which is an OSError, too
        raise
    except OSError as error:
        raise ParametersError(
            f"{path}: cannot be read as a connection file: {error.strerror or error}; {HOW_TO_JOIN}."
        ) from None
    found = _fields(text)
    if found is None:
        raise ParametersError(f"{path}: is not a connection file of nblb; {HOW_TO_JOIN}.")
    return ConnectionFile(**found, path=path.absolute())


def _fields(text: bytes) -> dict[str, Any] | None:
    """Return the fields of a file, checked; None if it is another kind of file."""
    try:
        content = json.loads(text)
        if content["nblb"] != FORMAT or content["role"] not in ROLES:
            return None
        texts = {key: content[key] for key in ("cluster", "name", "host", "server_key", "public_key")}
        ports = {key: content[key] for key in ("clients", "hubs")}
        secret = Secret(content["secret_key"])
        if not all(type(value) is str for value in (*texts.values(), secret.reveal(), content.get("core", ""))):
            return None
        if not all(type(port) is int and 0 <= port <= 65535 for port in ports.values()):
            return None
        if any(len(key) != 40 for key in (texts["server_key"], texts["public_key"], secret.reveal())):
            return None
        rest = {"role": content["role"], "core": content.get("core", ""), "refused": str(content.get("refused", ""))}
        return {**texts, **ports, **rest, "secret_key": secret}
    except (ValueError, KeyError, TypeError):
        return None


def is_one(path: Path) -> bool:
    """Return True if the file looks like a connection file; it is not checked."""
    try:
        with path.open("rb") as file:
            return b'"server_key"' in file.read(4096)
    except OSError:
        return False


def known(role: str = "") -> dict[str, Path]:
    """Return the clusters that this account has joined as a person, or with role "hub" as a hub, and their files."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder()) if entry.name.endswith(SUFFIX))
    except OSError:
        return {}
    if role == "hub":
        return {n.removesuffix(HUB_SUFFIX): folder() / n for n in names if n.endswith(HUB_SUFFIX)}
    return {n.removesuffix(SUFFIX): folder() / n for n in names if not n.endswith(HUB_SUFFIX)}


def named(cluster: str, role: str = "") -> Path:
    """Return the file for this cluster; raise ParametersError with the names that there are."""
    files = known(role)
    if cluster in files:
        return files[cluster]
    as_hub = " as a hub" if role == "hub" else ""
    names = ", ".join(files) or "none"
    raise ParametersError(
        f"this account has not joined a cluster named {cluster!r}{as_hub} (joined: {names}); {HOW_TO_JOIN}."
    )


def of_host(host: str, name: str = "", role: str = "") -> Path | None:
    """Return the file of a cluster whose core is at this host, with this name if one is given; None without one.

    Of several it is the first of `all_of_host`.
    """
    found = all_of_host(host, name, role)
    if len(found) > 1 and not found[0].refused:
        for other in found[1:]:
            if other.refused and other.path not in _told:
                _told.add(other.path)
                log.warning("the key in %s was refused (%s); the one of %r in %s is used",
                            other.path, other.refused, found[0].name, found[0].path)  # fmt: skip
    return found[0].path if found else None


def all_of_host(host: str, name: str = "", role: str = "") -> list[ConnectionFile]:
    """Return the files of clusters whose core is at this host, in the order in which they should be tried.

    With a name: only those of that name, the file's own before the cluster's. Those that the core has refused come
    last, and newer files before older ones. A file that cannot be used is left out, unless there is no other.
    """
    found: list[tuple[bool, bool, int, ConnectionFile]] = []
    problem: NotAllowed | ParametersError | None = None
    for called, path in known(role).items():
        try:
            theirs, changed_at = read(path), path.stat().st_mtime_ns
        except (NotAllowed, ParametersError) as error:
            if not name or called == name:
                problem = problem or error
            continue
        except OSError:  # just removed
            continue
        if name and name not in (called, theirs.cluster):
            continue
        if theirs.host == host or _addresses(theirs.host) & _addresses(host):
            found.append((called != name, bool(theirs.refused), -changed_at, theirs))
    if not found and problem is not None:
        raise problem
    named_first = bool(name)
    found.sort(key=lambda each: (each[1], each[0] if named_first else False, each[2]))
    return [each[3] for each in found]


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


def split(address: str) -> tuple[str, Path | None]:
    """Return the plain address, and the connection file that the address names."""
    plain, mark, path = address.partition(SEPARATOR)
    return plain, Path(path) if mark else None
