"""All checks of `nblb doctor`, in the order in which they are shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from nblb.launch.doctor import computer, network
from nblb.launch.doctor.finding import Finding
from nblb.parameters import Parameters


def all_findings(parameters: Parameters, hosts: Sequence[str] = ()) -> list[Finding]:
    """Run all checks.

    Parameters
    ----------
    parameters
        Those of the cluster.
    hosts
        Other computers, by their names for ssh, from which the core must be reachable.

    Returns
    -------
    list of Finding
        One or more of each check; one that cannot be made is a finding, too.

    Examples
    --------
    >>> [finding for finding in all_findings(load()) if finding.level == "fail"]
    """
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "versions": computer.versions,
        "limits": lambda: computer.limits(parameters),
        "files": lambda: computer.file_systems(parameters),
        "keys": lambda: computer.keys(parameters),
        "core": lambda: network.network(parameters, hosts),
        "proxies": lambda: computer.proxies(parameters, os.environ),
        "units": computer.units,
    }
    found: list[Finding] = []
    for subject, check in checks.items():
        try:
            found += check()
        except Exception as error:  # a strange computer must not hide what the other checks find
            found.append(Finding("warn", subject, f"this cannot be checked here: {type(error).__name__}: {error}"))
    return found
