"""Checksums of rows: the bytes of an entry end with a CRC-32 of the entry and of the other columns of its row.

SQLite has checksums in its WAL, but none in the database itself, so a changed byte there would be read as data.
"""

from __future__ import annotations

from zlib import crc32

SEAL_BYTES = 4


def sealed(entry: bytes, *columns: object) -> bytes:
    """Return the entry with the checksum of the row that contains it and these other columns."""
    return entry + crc32(repr(columns).encode(), crc32(entry)).to_bytes(SEAL_BYTES, "big")


def unsealed(stored: object, *columns: object) -> bytes | None:
    """Return the entry of a row, or None if the row is not the one that was written."""
    if type(stored) is not bytes or len(stored) < SEAL_BYTES:
        return None
    entry, seal = stored[:-SEAL_BYTES], stored[-SEAL_BYTES:]
    expected = crc32(repr(columns).encode(), crc32(entry))
    return entry if seal == expected.to_bytes(SEAL_BYTES, "big") else None


def contents(stored: object) -> bytes:
    """Return the entry of a row without a check, for what can still be read of a damaged one."""
    return stored[:-SEAL_BYTES] if type(stored) is bytes else b""
