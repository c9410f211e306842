"""Names of blobs: hashes of their content or, if very large, of their place in files. Clients name, the core checks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from nblb.protocol.framing import IN_MEMORY, Buffer, Part, Payload

NAMED_BY_PLACE = 8 * 1024 * 1024  # a blob with this many bytes in files is named by place, without another read


def blob_name(buffers: Sequence[Buffer | Part], by_content: bool = False) -> str:
    """Return the name of a function or constant: the hash of its content, or, if very large, of its place in files.

    A place is as good a name as a hash, because files never change; but equal bytes in another file get another name.
    Copies of files that travel to another computer have no place that the core could compare.
    """
    if by_content or _in_files(buffers) < NAMED_BY_PLACE or _are_copied(buffers):
        return content_hash(part if isinstance(part, IN_MEMORY) else part.read() for part in buffers)
    return content_hash(
        part if isinstance(part, IN_MEMORY) else f"{part.name} {part.at} {part.nbytes}".encode() for part in buffers
    )


def is_name_of(name: str, payload: Payload) -> bool:
    """Return whether the name is that of these bytes, by content or by place; reads files only if the place is not it.

    Raises
    ------
    OSError
        A file can no longer be read.
    """
    parts = payload.parts or payload.buffers
    if blob_name(parts) == name:  # reads nothing that is large
        return True
    if _in_files(parts) < NAMED_BY_PLACE:
        return False
    return blob_name(parts, by_content=True) == name


def content_hash(buffers: Iterable[Buffer]) -> str:
    """Return 32 hex digits that identify these bytes and the boundaries between the buffers."""
    digest = hashlib.blake2b(digest_size=16)
    for buffer in buffers:
        view = memoryview(buffer)
        digest.update(view.nbytes.to_bytes(8, "big"))
        digest.update(view)
    return digest.hexdigest()


def _are_copied(buffers: Sequence[Buffer | Part]) -> bool:
    return any(part.is_copied for part in buffers if not isinstance(part, IN_MEMORY))


def _in_files(buffers: Sequence[Buffer | Part]) -> int:
    return sum(part.nbytes for part in buffers if not isinstance(part, IN_MEMORY))
