"""Settings that people change while the core runs, kept in small files of the state folder for the next start."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nblb.access.private_file import write_private

Setting = TypeVar("Setting", bound=msgspec.Struct)


def keep(folder: Path, name: str, value: dict[str, Any] | None) -> None:
    """Write a setting to its file; None removes the file."""
    path = folder / f"{name}.json"
    if value is None:
        path.unlink(missing_ok=True)
    else:
        write_private(path, msgspec.json.encode(value))


def read(folder: Path, name: str, kind: type[Setting]) -> Setting | None:
    """Return a setting; None if it was not kept, or its file is damaged."""
    try:
        return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
