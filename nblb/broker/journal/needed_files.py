"""The files that the journal's rows need: counted in blob_files.py, and released when the rows are deleted."""

from __future__ import annotations

from collections.abc import Iterable

from nblb.broker.journal.blob_files import BlobFiles
from nblb.broker.journal.file_claims import settled
from nblb.broker.journal.rows import RowBatch
from nblb.shared_files.transfer import is_handed_over


class NeededFiles:
    """The needed files, by a submission's number (its arguments, and its results) and by a blob's hash."""

    def __init__(self, blobs: BlobFiles) -> None:
        self._blobs = blobs
        self._of_results: dict[int, list[str]] = {}
        self._of_arguments: dict[int, list[str]] = {}
        self._of_blobs: dict[str, list[str]] = {}

    def results(self, number: int, files: Iterable[str]) -> None:
        """Add the files that an end of this submission needs."""
        self._keep(self._of_results.setdefault(number, []), files)

    def arguments(self, number: int, files: Iterable[str]) -> None:
        self._keep(self._of_arguments.setdefault(number, []), files)

    def blob(self, name: str, files: Iterable[str]) -> None:
        self._keep(self._of_blobs.setdefault(name, []), files)

    def _keep(self, known: list[str], files: Iterable[str]) -> None:
        added = list(files)
        known += added
        self._blobs.take(added)

    def remember(self, batch: RowBatch) -> None:
        """Apply a committed batch: first count new needs, then release, because contents may be equal."""
        blobs, unneeded = self._blobs, list[str]()
        if not (batch.files or batch.arguments or batch.blobs or batch.large or batch.spent or batch.forgotten):
            blobs.drop_unneeded()
            return
        for number, files in batch.files:
            self.results(number, files)
        for number, files in batch.arguments:
            self.arguments(number, files)
        for name, row in batch.blobs.items():
            unneeded += self._of_blobs.pop(name, ())
            if row is not None and row[0] is not None:
                self.blob(name, row[0].split())
        blobs.drop_unneeded()
        for _, payload in batch.large:
            settled(payload)
        for number in batch.spent:
            # The next start looks for the files that the core itself wrote, so they stay with their rows.
            files = self._of_arguments.pop(number, [])
            unneeded += [name for name in files if is_handed_over(name)]
            if left := [name for name in files if not is_handed_over(name)]:
                self._of_arguments[number] = left
        for number, _ in batch.forgotten:
            unneeded += self._of_results.pop(number, ())
            unneeded += self._of_arguments.pop(number, ())
        blobs.release(unneeded)
