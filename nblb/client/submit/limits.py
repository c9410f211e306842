"""The size that a call may have, checked before it is submitted: LB_MAX_MESSAGE_MB, as for results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nblb.errors import NotSerializable

if TYPE_CHECKING:
    from nblb.parameters import Parameters
    from nblb.payload import Packed
    from nblb.protocol.framing import Payload

MIB = 1024 * 1024
LEAST_MIB = 1  # the smallest LB_MAX_MESSAGE_MB, so that smaller payloads need no look at the parameters


def check(parameters: Parameters, record: Packed, name: str) -> None:
    """Raises NotSerializable if a call of this record is larger than a message may be."""
    payload = record.payload
    if payload.nbytes > LEAST_MIB * MIB:
        if record.split and len(payload.sizes) == record.items:
            _check(parameters, max(payload.sizes), f"the arguments of a call of {name}")
        else:
            _check(parameters, payload.nbytes, f"the arguments of {name}")
    for holder in record.holders:
        _check(parameters, holder.blob.payload.nbytes, f"an argument of {name}")


def check_blobs(parameters: Parameters, blobs: Iterable[tuple[str, Payload]]) -> None:
    """Raises NotSerializable if one of these functions is larger than a message may be."""
    for name, payload in blobs:
        _check(parameters, payload.nbytes, f"the function {name} with what it captures")


def _check(parameters: Parameters, nbytes: int, what: str) -> None:
    most = parameters.LB_MAX_MESSAGE_MB
    if nbytes > most * MIB:
        raise NotSerializable(
            f"{what} would be {nbytes / MIB:,.1f} MiB, and LB_MAX_MESSAGE_MB allows {most:,} MiB; raise it in "
            "parameters.json, or let the task read its data from a file"
        )
