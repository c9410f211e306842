"""The output of tasks on its way between computers: from hubs into the core's folder, and from there to clients."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from nblb.broker.outgoing import Outgoing
from nblb.broker.output_folder import OutputFolder
from nblb.protocol.framing import IN_MEMORY, Buffer, Part, Payload
from nblb.protocol.messages import FetchOutput, OutputKept, OutputTold
from nblb.shared_files.output_log import folder_name, of_item, segments
from nblb.shared_files.transfer import BLOBS, INCOMING, FilePart, write_all

if TYPE_CHECKING:
    from nblb.broker.journal.file_claims import FileClaims

KINDS = ("said", "shown")
MOST_SEGMENTS = 8  # of one message; a hub has at most five of one kind
FETCHED_S = 3600.0  # how long a client may take to fetch what it was told of
CHECK_SHARE = 20  # all sizes are added up when this fraction (1/n) of the bound has come


class OutputDelivery:
    """Stores what hubs elsewhere send, within the bounds of LB_OUTPUT_MB, and answers clients elsewhere."""

    def __init__(self, folder: OutputFolder, claims: FileClaims, out: Outgoing, max_mb: int, total_mb: int) -> None:
        self._folder, self._claims, self._out = folder, claims, out
        self._most, self._total = max_mb << 20, total_mb << 20
        self._received = 0
        self._offered: deque[tuple[float, FilePart]] = deque()

    def keep(self, message: OutputKept) -> None:
        """Store the output of a slice; what is malformed or too large is dropped, and a full disk loses it."""
        payload, numbers = message.payload, message.numbers
        parts = payload.parts or payload.buffers
        if message.kind not in KINDS or not 0 < len(numbers) == len(parts) <= MOST_SEGMENTS:
            return
        if payload.nbytes > 2 * self._most or min(numbers, default=0) < 0:
            return
        folder = self._folder.path / folder_name(message.task)
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            for number, part in zip(numbers, parts, strict=True):
                _store(part, f"{folder}/{message.first}-{message.attempt}.{message.kind}.{number}")
        self._received += payload.nbytes
        if self._received > self._total // CHECK_SHARE:
            self._received = 0
            self._folder.bound(self._total)

    def answer(self, address: str, message: FetchOutput, now: float) -> None:
        """Send a client all segments that have output of the item it asks about."""
        found = of_item(segments(str(self._folder.path), message.task, "said"), message.item)
        told: list[tuple[int, int, int]] = []
        parts: list[Buffer | Part] = []
        for segment in found:
            with contextlib.suppress(OSError):  # just removed
                part = self._claims.offer(segment.path)
                told.append((segment.attempt, segment.first, segment.number))
                parts.append(part)
                self._offered.append((now + FETCHED_S, part))
        payload = Payload.of(parts)
        self._out.add(address, OutputTold(request=message.request, segments=tuple(told), payload=payload))

    def rest(self, now: float) -> None:
        """Drop the links that clients have had time to fetch."""
        while self._offered and self._offered[0][0] <= now:
            self._offered.popleft()


def _store(part: Buffer | Part, path: str) -> None:
    """Give a segment its place: by a link, if it is a file of its own; one that exists already stays."""
    if isinstance(part, FilePart) and part.at == 0:
        for place in (BLOBS, INCOMING):
            source = f"{part.root}/{place}/{part.name}"
            with contextlib.suppress(FileNotFoundError):
                if Path(source).lstat().st_size == part.nbytes:
                    os.link(source, path, follow_symlinks=False)
                    return
    data = part if isinstance(part, IN_MEMORY) else part.read()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        write_all(fd, [memoryview(data).cast("B")])
    finally:
        os.close(fd)
