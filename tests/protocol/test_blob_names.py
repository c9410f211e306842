"""Names of blobs, and whether bytes have the name under which they are sent."""

from __future__ import annotations

import pytest

from nblb.protocol import blob_names
from nblb.protocol.blob_names import blob_name, content_hash, is_name_of
from nblb.protocol.framing import Buffer, Payload


class Stored:
    """A buffer in a file; counts how often it is read."""

    is_copied = False

    def __init__(self, name: str, content: bytes, at: int = 0) -> None:
        self.name, self.content, self.at, self.nbytes, self.reads = name, content, at, len(content), 0

    def read(self) -> Buffer:
        self.reads += 1
        return self.content


LARGE = b"x" * blob_names.NAMED_BY_PLACE


@pytest.mark.parametrize(
    "buffers", [[b"code"], [b"notes", b"pickle"], [b""], [b"a", bytearray(b"b"), memoryview(b"c")]]
)
def test_bytes_have_their_own_name_only(buffers: list[Buffer]) -> None:
    name = blob_name(buffers)
    assert is_name_of(name, Payload.of(buffers))
    for others in ([*buffers, b""], [b"other"], [b"".join(map(bytes, buffers)), b"x"], buffers[1:]):
        assert not is_name_of(name, Payload.of(others))


def test_boundaries_count() -> None:
    assert not is_name_of(content_hash([b"ab", b"c"]), Payload((b"a", b"bc")))


def test_a_small_file_is_read() -> None:
    part = Stored("f1", b"small")
    assert is_name_of(content_hash([b"n", b"small"]), Payload.of([b"n", part]))
    assert part.reads == 1
    assert not is_name_of(content_hash([b"n", b"other"]), Payload.of([b"n", part]))


def test_a_large_one_has_the_name_of_its_place_and_is_not_read() -> None:
    part = Stored("f1", LARGE, at=4096)
    name = blob_name([b"n", part])
    assert is_name_of(name, Payload.of([b"n", part]))
    assert part.reads == 0
    for other in (Stored("f2", LARGE, 4096), Stored("f1", LARGE, 0), Stored("f1", LARGE + b"x", 4096)):
        assert not is_name_of(name, Payload.of([b"n", other]))
    assert not is_name_of(name, Payload.of([b"m", part]))


def test_a_copy_for_another_computer_has_the_name_of_its_content() -> None:
    part = Stored("f1", LARGE)
    part.is_copied = True
    name = blob_name([b"n", part])
    assert name == content_hash([b"n", LARGE])
    assert is_name_of(name, Payload.of([b"n", Stored("another name", LARGE)]))


def test_a_large_one_may_be_named_by_its_content_too() -> None:
    part = Stored("f1", LARGE)
    assert is_name_of(blob_name([part], by_content=True), Payload.of([part]))
    assert part.reads == 2
