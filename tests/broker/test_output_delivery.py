"""Output of hubs and clients elsewhere: what is stored, what is told, and what is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from nblb.broker.journal.file_checks import FileChecks
from nblb.broker.journal.file_claims import FileClaims
from nblb.broker.output_delivery import FETCHED_S, OutputDelivery
from nblb.broker.output_folder import OutputFolder
from nblb.protocol.framing import Payload
from nblb.protocol.messages import FetchOutput, OutputKept, OutputTold
from nblb.shared_files.output_log import CHUNK, HEAD, MAGIC, KeptOutput
from nblb.shared_files.transfer import BLOBS, FilePart, Folder


class Out:
    """What the core would send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, OutputTold]] = []

    def add(self, address: str, message: OutputTold) -> None:
        self.sent.append((address, message))


def segment(text: bytes, item: int = 0, before: int = 0) -> bytes:
    return HEAD.pack(MAGIC, before) + CHUNK.pack(len(text), item, 0) + text


class Core:
    def __init__(self, path: Path, max_mb: int = 1, total_mb: int = 10) -> None:
        self.path = path
        (path / BLOBS).mkdir()
        self.folder = OutputFolder(path, "core")
        self.claims = FileClaims(path, set(), FileChecks(str(path)))
        self.out = Out()
        self.delivery = OutputDelivery(self.folder, self.claims, self.out, max_mb, total_mb)  # type: ignore[arg-type]

    def keep(self, task: str, *buffers: object, **fields: object) -> None:
        numbers = tuple(range(len(buffers)))
        about = {"task": task, "attempt": 1, "numbers": numbers, "payload": Payload.of(buffers), **fields}  # type: ignore[arg-type]
        self.delivery.keep(OutputKept(**about))  # type: ignore[arg-type]

    def text(self, task: str, item: int = 0) -> str:
        return "".join(KeptOutput(str(self.folder.path), task, item).text())


@pytest.fixture
def core(tmp_path: Path) -> Core:
    return Core(tmp_path)


def test_what_comes_is_read_as_the_output_of_a_hub_here(core: Core) -> None:
    core.keep("t", segment(b"head"), segment(b" tail", before=CHUNK.size + 4))
    assert core.text("t") == "head tail"
    core.keep("t", segment(b"other"))
    assert core.text("t") == "head tail", "what is there stays"


def test_a_file_gets_its_place_without_a_copy(core: Core) -> None:
    hub = Folder(str(core.path))
    source = core.path / "segment"
    source.write_bytes(segment(b"x" * 1000))
    part = hub.take_in(str(source), source.stat().st_size)
    core.keep("t", part)
    assert core.text("t") == "x" * 1000
    kept = next((core.folder.path / "t").iterdir())
    assert kept.stat().st_ino == source.stat().st_ino


def test_a_part_of_a_file_is_copied(core: Core) -> None:
    (part,) = Folder(str(core.path)).write([segment(b"y" * 40_000)])
    assert isinstance(part, FilePart)
    core.keep("t", part)
    assert core.text("t") == "y" * 40_000, "not the bytes that fill the page"


@pytest.mark.parametrize("wrong", [{"kind": "../evil"}, {"numbers": ()}, {"numbers": (0, 1)}, {"numbers": (-1,)}])
def test_what_is_malformed_is_dropped(core: Core, wrong: dict[str, object]) -> None:
    core.keep("t", segment(b"x"), **wrong)
    assert not list(core.folder.path.glob("*/*"))


def test_bounds(tmp_path: Path) -> None:
    core = Core(tmp_path, max_mb=1, total_mb=2)
    core.keep("large", segment(b"x" * (3 << 20)))
    assert core.text("large") == ""
    for n in range(6):
        core.keep(f"t{n}", segment(b"x" * (1 << 20)))
    left = sorted(path.name for path in core.folder.path.iterdir())
    assert left[-1] == "t5"
    assert len(left) <= 2, "the oldest goes"
    core.keep("../../outside", segment(b"x"))
    assert not list(tmp_path.parent.glob("outside*"))


def test_a_client_elsewhere_gets_the_segments_of_its_item(core: Core) -> None:
    core.keep("t", segment(b"of item 0", 0), first=0)
    core.keep("t", segment(b"of item 5", 0), first=5)
    core.delivery.answer("client", FetchOutput(request=7, task="t", item=5), 100.0)
    ((address, told),) = core.out.sent
    assert (address, told.request, told.segments) == ("client", 7, ((1, 5, 0),))
    parts = told.payload.parts
    assert parts is not None
    assert all(core.claims.refers(part) for part in parts if isinstance(part, FilePart))
    fetched = KeptOutput.of_segments("t", 5, told.segments, told.payload.buffers)
    assert "".join(fetched.text()) == "of item 5"
    (name,) = [path.name for path in (core.path / BLOBS).iterdir()]
    core.out.sent.clear()
    del told, parts
    assert (core.path / BLOBS / name).exists(), "the client has still to fetch it"
    core.delivery.rest(100.0 + FETCHED_S)
    assert not (core.path / BLOBS / name).exists()
    core.delivery.answer("client", FetchOutput(request=8, task="unknown"), 0.0)
    assert core.out.sent[0][1].segments == ()
