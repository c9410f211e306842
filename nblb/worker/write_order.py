"""The order in which a task writes to stdout and stderr, for the two processes that read them from separate pipes.

Two pipes do not show in which order they were filled. So the worker counts the bytes that Python writes to each, and
notes each change from one stream to the other, in memory that it shares with its hub (control_page.py). Whoever reads
the pipes counts, too, and arranges what it has read by these notes. What C code or a child process writes is in no
count: it keeps its place within its stream, and stands near its place among the others.
"""

from __future__ import annotations

from collections.abc import Sequence

_WRITTEN, _READ, _SWITCHES, _RING = 0, 2, 4, 8  # indices of words; the first two of one for each stream
RING = 504  # changes of stream that are remembered
WORDS = _RING + RING

Pieces = list[tuple[int, bytes]]  # (0 for stdout, 1 for stderr; text)


class WriteOrder:
    """The notes of one worker. The worker writes all but the counts of bytes read, which whoever reads adds to.

    Parameters
    ----------
    words
        WORDS unsigned 64-bit numbers, shared by the worker and its hub.
    """

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._last = 0

    @classmethod
    def alone(cls) -> WriteOrder:
        """Make notes that are shared with no other process."""
        return cls(memoryview(bytearray(8 * WORDS)).cast("Q"))

    def close(self) -> None:
        self._words.release()

    def begin(self) -> None:
        """Start at zero with a new slice, when both pipes have been emptied."""
        self._words[_WRITTEN] = self._words[_WRITTEN + 1] = 0
        self._words[_READ] = self._words[_READ + 1] = 0
        self._words[_SWITCHES] = self._last = 0

    def wrote(self, stream: int, length: int) -> None:
        """Note that Python has written so many bytes to a stream."""
        words, last = self._words, self._last
        if stream != last:
            number = words[_SWITCHES]
            words[_RING + number % RING] = words[_WRITTEN + last] << 1 | last
            words[_SWITCHES] = number + 1
            self._last = stream
        words[_WRITTEN + stream] += length

    def has_read(self, stream: int, length: int) -> None:
        """Note that so many bytes were taken from the pipe of a stream."""
        self._words[_READ + stream] += length

    def sort(self, data: Sequence[bytes], is_all: bool) -> tuple[Pieces, list[bytes]]:
        """Arrange what was read last from the two pipes.

        Parameters
        ----------
        data
            The text of stdout and that of stderr, up to the last byte read.
        is_all
            False if bytes that were written before some of these may still be on their way.

        Returns
        -------
        tuple
            The pieces in the order of writing, and the rest of each stream that must wait for such bytes.
        """
        words, pieces = self._words, _CutPieces(data, self._words[_READ], self._words[_READ + 1])
        switches, last = words[_SWITCHES], 0
        for number in range(max(0, switches - RING), switches):
            mark = words[_RING + number % RING]
            last, upto = mark & 1, mark >> 1
            pieces.take(last, upto)
            if upto > pieces.ends[last] and not is_all:
                return pieces.found, pieces.rest()
        for stream in (last, 1 - last):  # nearly always the second: the stream after the last change
            pieces.take(stream, pieces.ends[stream])
        return pieces.found, [b"", b""]


class _CutPieces:
    """The pieces of two streams, cut off one after another."""

    def __init__(self, data: Sequence[bytes], *ends: int) -> None:
        self.found: Pieces = []
        self.ends = ends
        self._data = data
        self._at = [end - len(part) for part, end in zip(data, ends, strict=True)]

    def take(self, stream: int, upto: int) -> None:
        """Take a stream up to this position, as far as it was read."""
        at, end = self._at[stream], min(upto, self.ends[stream])
        if end <= at:
            return
        start = at - (self.ends[stream] - len(self._data[stream]))
        text = self._data[stream][start : start + end - at]
        self._at[stream] = end
        if self.found and self.found[-1][0] == stream:
            self.found[-1] = stream, self.found[-1][1] + text
        else:
            self.found.append((stream, text))

    def rest(self) -> list[bytes]:
        return [part[len(part) - (end - at) :] for part, end, at in zip(self._data, self.ends, self._at, strict=True)]
