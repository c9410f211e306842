"""Warnings about hubs that cannot run tasks from this process: another Python, or NumPy 1 instead of NumPy 2."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from nblb.host import numpy_version

PYTHON = (sys.version_info[0], sys.version_info[1])


def notes(hubs: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence for each kind of difference, with the names of the hubs that have it."""
    python: dict[str, list[str]] = {}
    numpy: dict[str, list[str]] = {}
    ours = numpy_version()
    for hub in hubs:
        version = tuple(hub.get("python") or ())
        if version and version != PYTHON:
            python.setdefault(_dotted(version), []).append(str(hub.get("name", "")))
        elif ours and hub.get("numpy") and _major(hub["numpy"]) != _major(ours):
            numpy.setdefault(str(hub["numpy"]), []).append(str(hub.get("name", "")))
    return [
        *(
            f"{_hubs(names)} Python {version} and this process {_dotted(PYTHON)}: tasks from here do not run there; "
            "%lb_hub or 'nblb hub' with this Python starts one where they do"
            for version, names in python.items()
        ),
        *(
            f"{_hubs(names)} NumPy {version} and this process {ours}: arrays of NumPy 2 cannot be loaded with NumPy 1; "
            "install the same major version on both"
            for version, names in numpy.items()
        ),
    ]


def _hubs(names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"hub {shown} has" if len(names) == 1 else f"hubs {shown} have"


def _major(version: str) -> str:
    return version.partition(".")[0]


def _dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))
