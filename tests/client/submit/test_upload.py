"""The buffers that a client writes to files, and those that it does not write again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nblb import payload
from nblb.client.submit import upload
from nblb.client.submit.upload import RECENT_FROM, Upload
from nblb.protocol.framing import Payload
from nblb.shared_files.transfer import FilePart


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Upload]:
    for name in ("incoming", "blobs"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "incoming" / "token").write_text("t")
    found = Upload.to(str(tmp_path), "t", None)
    assert found is not None
    yield found
    found.close()
    found.folder.close()
    assert payload.stores.store is None


def test_the_same_bytes_at_the_same_place_are_written_once(store: Upload) -> None:
    array = bytearray(RECENT_FROM)
    first, again = store.put([b"p", array])[1], store.put([b"q", array])[1]
    assert isinstance(first, FilePart)
    assert again is first
    array[-1] = 1
    changed = store.put([b"p", array])
    assert changed[1] is not first
    assert bytes(Payload.of(changed).buffers[1]) == array
    assert bytes(first.read()) == bytes(RECENT_FROM)


def test_what_was_purged_is_written_again(store: Upload, tmp_path: Path) -> None:
    array = bytearray(RECENT_FROM)
    first = store.put([array])[0]
    for file in (tmp_path / "incoming").iterdir():
        if file.name != "token":
            file.unlink()
    again = store.put([array])[0]
    assert again is not first
    assert bytes(Payload.of([again]).buffers[0]) == array
    assert store.put([array])[0] is again


def test_while_nothing_can_change_nothing_is_compared(store: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    array = bytearray(RECENT_FROM)
    alike: payload.Alike = {}
    monkeypatch.setattr(upload, "are_same", lambda *_: pytest.fail("compared"))
    assert store.put([array], alike)[0] is store.put([array], alike)[0]


def test_only_the_latest_are_remembered(store: Upload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(upload, "RECENT_BYTES", 2 * RECENT_FROM)
    arrays = [bytearray(RECENT_FROM) for _ in range(5)]
    for array in arrays:
        store.put([array])
    assert len(list((tmp_path / "incoming").iterdir())) == 1 + 2
    assert store.copy_of(arrays[0]) is None
    assert store.copy_of(arrays[4]) is not None
    large = bytearray(3 * RECENT_FROM)
    assert store.put([large])[0] is store.put([large])[0]  # alone, the latest may be larger


def test_what_is_small_is_sent(store: Upload) -> None:
    assert payload.pack_call((b"x" * 1000,), {}).payload.parts is None
    packed = payload.pack_call((bytearray(RECENT_FROM),), {}).payload
    assert packed.nbytes > RECENT_FROM
    assert packed.parts is not None


def test_without_room_bytes_are_sent(store: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.folder, "write", full)
    packed = payload.pack_call((bytearray(RECENT_FROM),), {}).payload
    assert packed.parts is None
    assert packed.nbytes > RECENT_FROM
