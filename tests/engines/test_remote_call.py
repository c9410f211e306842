"""What an engine's worker does with an order, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from nblb.engines.engine import CAPABILITIES, refused
from nblb.engines.remote_call import EngineBlobs, joined, parted
from nblb.protocol.framing import Payload
from nblb.protocol.messages import HoldBlob, TaskPrinted
from nblb.worker.channel import from_worker, to_worker


def test_a_message_survives_its_way() -> None:
    message = TaskPrinted(task="t", attempt=1, text="täglich")
    assert parted(from_worker, joined(from_worker, message)) == message
    whole = HoldBlob(hash="h", payload=Payload((b"small", bytes(300_000))))
    back = parted(to_worker, joined(to_worker, whole))
    assert [bytes(buffer) for buffer in back.payload.buffers] == [b"small", bytes(300_000)]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot read .*gone .*option 'folder'"):
        EngineBlobs().keep({"f": [str(tmp_path / "gone")]})


def test_a_refusal_is_a_sentence() -> None:
    class Some:
        name = "some"

    assert {refused(Some(), each) for each in CAPABILITIES} >= {  # type: ignore[arg-type]
        "the engine 'some' cannot kill the worker of a call that runs",
        "the engine 'some' cannot show progress while a call runs",
    }
