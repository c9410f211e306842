"""Sentences about dead workers."""

from __future__ import annotations

import signal

import pytest

from nblb.hub.blame import OutOfMemoryWatch, sentence

GIB = 2**20  # in KiB


def exited(code: int) -> int:
    return code << 8


@pytest.mark.parametrize(
    ("status", "peak_kib", "killed_why", "struck", "said", "words"),
    [
        (exited(3), 0, "", False, "", "exit code 3 (os._exit?)"),
        (exited(0), 0, "", False, "bye\n", "exit code 0 (os._exit?); its last output: bye"),
        (signal.SIGTERM, 0, "", False, "", "killed by signal 15 (SIGTERM)"),
        (signal.SIGKILL, 100, "", False, "", "killed by signal 9 (SIGKILL)"),
        (signal.SIGKILL, 4 * GIB, "", True, "", "killed by the kernel for memory: it had used 4.0 GiB at most"),
        (signal.SIGKILL, 100_000_000 * GIB, "", False, "", "perhaps for memory: it had used 100000000.0 GiB at most"),
        (signal.SIGKILL, 0, "the grace is over", True, "", "killed by its hub: the grace is over"),
        (signal.SIGSEGV, 0, "", False, "", "killed by signal 11 (SIGSEGV): a crash in compiled code"),
        (77, 0, "", False, "", "killed by signal 77 (unknown)"),
        (exited(1), 0, "", False, "x" * 5000 + "end", "x" * 497 + "end"),
    ],
)
def test_sentence(status: int, peak_kib: int, killed_why: str, struck: bool, said: str, words: str) -> None:
    assert sentence(status, peak_kib, killed_why, struck, said).endswith(words)


def test_a_crash_shows_the_frames_of_the_task_only() -> None:
    said = (
        "before\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
        '  File "<cell>", line 4 in crash\n  File "/x/nblb/hub/calling.py", line 9 in call\n  File "/x/y.py", line 1\n'
    )
    words = sentence(signal.SIGSEGV, 0, "", False, said)
    assert words.endswith('  File "<cell>", line 4 in crash')


def test_the_kernels_counts_can_be_read() -> None:
    watch = OutOfMemoryWatch()
    assert watch.has_struck() is False
