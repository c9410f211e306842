"""Messages to frames and back: nothing is lost, and garbage only ever raises ProtocolError."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.errors import ProtocolError
from nblb.protocol import messages
from nblb.protocol.framing import LARGE, MAX_FRAMES, VERSION, Codec, Payload
from nblb.protocol.messages import (
    HoldBlob,
    RunTask,
    SubmitTask,
    TaskEnded,
    TaskState,
    client_to_core,
    core_to_client,
    core_to_hub,
)
from tests.strategies import fill, parts, payloads, spoilt

CODECS = {name: getattr(messages, name) for name in ("client_to_core", "core_to_client", "hub_to_core", "core_to_hub")}
VOCABULARIES: dict[str, tuple[type, ...]] = {
    "client_to_core": typing.get_args(messages.FromClient),
    "core_to_client": typing.get_args(messages.ToClient),
    "hub_to_core": typing.get_args(messages.FromHub),
    "core_to_hub": typing.get_args(messages.ToHub),
}


def as_received(frames: list[Any]) -> list[Any]:
    """What a socket hands over: bytes first, views of large frames behind."""
    return [bytes(frame) if at < 3 else memoryview(bytes(frame)) for at, frame in enumerate(frames)]


@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    said = data.draw(st.lists(st.one_of(*map(fill, VOCABULARIES[name])), max_size=4))
    assert CODECS[name].decode(as_received(CODECS[name].encode(said))) == said


def test_a_batch_of_a_thousand() -> None:
    said = [SubmitTask(task=str(i), name="f", payload=Payload((b"x" * i,))) for i in range(1000)]
    frames = client_to_core.encode(said)
    assert len(frames) == 3
    assert client_to_core.decode(frames) == said


def test_large_buffers_travel_apart_and_uncopied() -> None:
    large = bytearray(LARGE)
    frames = client_to_core.encode([SubmitTask(task="a", name="f", payload=Payload((b"p", large, b"q", large)))])
    assert len(frames) == 5
    assert frames[3] is large
    (message,) = client_to_core.decode(frames)
    assert message.payload.buffers[1] is large


def test_more_large_buffers_than_frames_are_allowed() -> None:
    many = Payload([b"L" * LARGE] * (MAX_FRAMES + 10))
    frames = core_to_client.encode([TaskEnded(task="a", state=TaskState.DONE, payload=many)])
    assert len(frames) <= MAX_FRAMES
    (message,) = core_to_client.decode(frames)
    assert message.payload == many


def test_buffers_of_any_shape() -> None:
    floats = memoryview(bytearray(8 * 20_000)).cast("d")
    small = memoryview(bytearray(8 * 5)).cast("d", (5,))
    shapes: Any = (b"p", floats, small)
    frames = client_to_core.encode([SubmitTask(task="a", name="f", payload=Payload(shapes))])
    (message,) = client_to_core.decode(as_received(frames))
    assert [memoryview(b).nbytes for b in message.payload.buffers] == [1, 160_000, 40]


@settings(deadline=None)
@given(parts, st.data())
def test_a_slice_holds_its_items(items: list[bytes], data: st.DataObject) -> None:
    payload = Payload((b"".join(items),), [len(item) for item in items])
    first = data.draw(st.integers(0, len(items)))
    last = data.draw(st.integers(first, len(items)))
    cut = payload.slice(first, last - first)
    assert [bytes(item) for item in cut.items()] == items[first:last]
    assert [bytes(item) for item in payload.items()] == items


@settings(deadline=None)
@given(payloads)
def test_stored_and_taken_out_again(payload: Payload) -> None:
    assert Payload.frombytes(payload.tobytes()) == payload
    assert payload.nbytes == sum(len(buffer) for buffer in payload.buffers)


def test_a_payload_is_not_a_key() -> None:
    with pytest.raises(TypeError):
        hash(Payload())
    assert Payload((b"a",)) != 3
    assert "1 bytes" in repr(Payload((b"a",)))


def test_only_what_is_a_message_is_encoded() -> None:
    with pytest.raises(TypeError, match="object is not part of a message"):
        core_to_client.encode([messages.Answer(request=1, value=object())])


HEADER = b'[{"type":"SubmitTask","task":"a","name":"f","payload":%s}]'

WRONG = [
    [],
    [VERSION],
    [b"nblb0", b"[]"],
    [VERSION, b""],
    [VERSION, b"{}"],
    [VERSION, b"[1]"],
    [VERSION, b'[{"type":"Nonsense"}]'],
    [VERSION, b'[{"type":"RunTask"}]'],  # a word of another door
    [VERSION, b"\xff"],
    [VERSION, b"[" * 100_000],
    [VERSION, HEADER % b"5"],  # announces what does not come
    [VERSION, HEADER % b"5", b"1234"],
    [VERSION, HEADER % b"5", b"123456"],
    [VERSION, HEADER % b"-1", b""],
    [VERSION, HEADER % b"[-1,-1]", b"", b"x"],
    [VERSION, HEADER % b"0", b"", b"unannounced"],
    [VERSION, HEADER % b'"5"', b"12345"],
    [VERSION, HEADER % b"[true]", b"1"],
    [VERSION, HEADER % b"true", b"1"],
    [VERSION, HEADER % b"1.0", b"1"],
    [VERSION, HEADER % b"null", b""],
    [VERSION, HEADER % b'{"items":5}', b"12345"],
    [VERSION, HEADER % b'{"items":[-1,6]}', b"12345"],
    [VERSION, HEADER % b'{"items":[true]}', b"1"],
    [VERSION, HEADER % b'{"items":[1e400]}', b"1"],
    [VERSION, HEADER % b"99999999999999999999999999", b"1"],
    [VERSION, HEADER % b"[[1]]", b"1"],
    [VERSION, b"[]", b""] + [b""] * MAX_FRAMES,
    [VERSION, b'[{"type":"SubmitTask","task":"a","name":"f","priority":1e999}]'],
]


@pytest.mark.parametrize("frames", WRONG, ids=lambda frames: repr(frames[1:2])[:50])
def test_wrong_frames(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        client_to_core.decode(frames)


def refuses_or_reads(codec: Codec, frames: list[Any]) -> None:
    try:
        said = codec.decode(frames)
    except ProtocolError:
        return
    assert isinstance(said, list)


@pytest.mark.decoder
@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=6))
def test_noise(name: str, frames: list[bytes]) -> None:
    refuses_or_reads(CODECS[name], frames)
    refuses_or_reads(CODECS[name], [VERSION, *frames])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.sampled_from(["items", "x"]), each, max_size=2),
    max_leaves=6,
)


@pytest.mark.decoder
@settings(deadline=None, max_examples=3 * settings().max_examples)
@given(json_values, st.lists(st.binary(max_size=8), max_size=3))
def test_any_layout(layout: Any, rest: list[bytes]) -> None:
    header = HEADER % msgspec.json.encode(layout)
    refuses_or_reads(client_to_core, [VERSION, header, *rest])
    refuses_or_reads(messages.core_to_hub, [VERSION, b'[{"type":"HoldBlob","hash":"a","payload":' + header[50:], *rest])


@pytest.mark.decoder
@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None)
@given(data=st.data())
def test_damaged_messages(name: str, data: st.DataObject) -> None:
    frames = [bytes(f) for f in CODECS[name].encode([data.draw(st.one_of(*map(fill, VOCABULARIES[name])))])]
    at = data.draw(st.integers(0, len(frames) - 1))
    frames[at] = spoilt(data, frames[at])
    refuses_or_reads(CODECS[name], frames)


def test_a_payload_is_read_once_for_each_place_it_stands_in() -> None:
    payload = Payload((b"same",))
    said = [
        HoldBlob(hash="a", payload=payload),
        RunTask(task="t", attempt=1, name="f", function="a", payload=payload),
    ]
    assert messages.core_to_hub.decode(messages.core_to_hub.encode(said)) == said


# ── what lies in files ──


class Lying:
    """A buffer in a file of the imagination."""

    def __init__(self, name: str, at: int, nbytes: int) -> None:
        self.name, self.at, self.nbytes = name, at, nbytes

    def read(self) -> bytes:
        return self.name.encode() * self.nbytes


def test_what_lies_in_a_file_is_named_to_those_who_see_it() -> None:
    said = HoldBlob(hash="h", payload=Payload.of([b"pickle", Lying("a", 4096, 3), Lying("b", 0, LARGE)]))
    frames = core_to_hub.encode([said], refer=lambda part: True)
    assert len(frames) == 3
    assert frames[2] == b"pickle"
    (heard,) = core_to_hub.reader(Lying).decode(frames)
    assert [(p.name, p.at, p.nbytes) for p in heard.payload.parts[1:]] == [("a", 4096, 3), ("b", 0, LARGE)]
    assert heard == said
    assert heard.payload.nbytes == 9 + LARGE


def test_to_others_its_bytes_are_sent() -> None:
    said = HoldBlob(hash="h", payload=Payload.of([b"pickle", Lying("a", 0, 3), Lying("b", 0, LARGE)]))
    for refer in (None, lambda part: part.name == "c"):
        frames = core_to_hub.encode([said], refer)
        assert len(frames) == 4
        assert core_to_hub.decode(as_received(frames)) == [said]


def test_nothing_is_named_where_nothing_was_agreed_upon() -> None:
    frames = core_to_hub.encode([HoldBlob(hash="h", payload=Payload.of([Lying("a", 0, 1)]))], lambda part: True)
    with pytest.raises(ProtocolError, match="have not agreed to share files"):
        core_to_hub.decode(frames)


ODD = st.none() | st.integers() | st.text(max_size=5) | st.booleans() | st.lists(st.integers(), max_size=2)
PLACES = st.dictionaries(st.sampled_from(["file", "at", "size", "else"]), ODD, max_size=4)


@settings(deadline=None)
@given(layout=st.lists(PLACES | ODD, max_size=4) | PLACES)
def test_a_layout_that_means_no_file_is_only_a_protocol_error(layout: Any) -> None:
    def find(name: str, at: int, size: int) -> Lying:
        if len(name) > 2:
            raise ValueError("no such name")
        return Lying(name, at, size)

    header = msgspec.json.encode([{"type": "HoldBlob", "hash": "h", "payload": layout}])
    try:
        (heard,) = core_to_hub.reader(find).decode([VERSION, header])
    except ProtocolError:
        return
    for part in heard.payload.parts or ():
        assert not isinstance(part, Lying) or (part.at >= 0 and part.nbytes >= 1)
