"""Threads, and the sentence where there can be no more of them."""

from __future__ import annotations

import threading

import pytest

from nblb.errors import NblbError
from nblb.system.threads import start_thread


def test_a_thread_runs_with_its_arguments() -> None:
    found: list[int] = []
    thread = start_thread(found.append, "nblb-test", (7,))
    thread.join()
    assert (found, thread.name, thread.daemon) == ([7], "nblb-test", True)


def test_a_limit_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(NblbError, match="The thread nblb-test cannot be started"):
        start_thread(print, "nblb-test")
