"""The sentences that explain why a worker died."""

from __future__ import annotations

import signal

import pytest

from nblb.hub.pool import cause_of_death
from nblb.hub.pool.cause_of_death import OutOfMemoryWatch, has_whole_stack, is_for_memory, output_tail, sentence
from nblb.hub.pool.memory_watch import Trail

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
        (signal.SIGKILL, 4 * GIB, "", True, "", "killed by the kernel for memory: 4.0 GB of 8.0 GB"),
        (signal.SIGKILL, 100_000_000 * GIB, "", False, "", "perhaps for memory: 97,656 TB of 8.0 GB"),
        (signal.SIGKILL, 0, "killed for memory: 2 of 1", True, "", "killed for memory: 2 of 1"),
        (signal.SIGKILL, 0, "the grace is over", True, "", "killed by its hub: the grace is over"),
        (signal.SIGSEGV, 0, "", False, "", "killed by signal 11 (SIGSEGV): a crash in compiled code"),
        (77, 0, "", False, "", "killed by signal 77 (unknown)"),
        (exited(1), 0, "", False, "x" * 5000 + "end", "x" * 497 + "end"),
    ],
)
def test_sentence(
    monkeypatch: pytest.MonkeyPatch, status: int, peak_kib: int, killed_why: str, struck: bool, said: str, words: str
) -> None:
    monkeypatch.setattr(cause_of_death, "memory_limit_mb", lambda: 8192.0)
    assert sentence(status, peak_kib, killed_why, struck, said, None, 0.0).endswith(words)


def test_a_death_for_memory_tells_how_it_came_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cause_of_death, "memory_limit_mb", lambda: 4096.0)
    trail = Trail(("t", 0, 1), 100.0)
    for second, used_mb in ((1, 300), (6, 2048), (11, 3993)):
        trail.add(100.0 + second, used_mb)
    assert sentence(signal.SIGKILL, 3993 * 1024, "", True, "", trail, 112.0) == (
        "killed by the kernel for memory: 3.9 GB of 4.0 GB, after 12 s; "
        "its memory was 300 MB at 1 s, 2.0 GB at 6 s, 3.9 GB at 11 s"
    )


def test_what_there_is_of_memory_is_known() -> None:
    assert 64 < cause_of_death.memory_limit_mb() < 2**30


def test_a_crash_shows_the_frames_of_the_task_only() -> None:
    said = (
        "before\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
        '  File "<cell>", line 4 in crash\n'
        '  File "/x/nblb/worker/calling.py", line 9 in call\n  File "/x/y.py", line 1\n'
    )
    words = sentence(signal.SIGSEGV, 0, "", False, said, None, 0.0)
    assert words.endswith('  File "<cell>", line 4 in crash')


def test_a_stack_that_was_asked_for_shows_the_frames_of_the_task_only() -> None:
    said = (
        'much output\nStack (most recent call first):\n  File "<cell>", line 4 in grow\n'
        '  File "/x/nblb/worker/calling.py", line 9 in call\n'
    )
    assert output_tail(said) == 'Stack (most recent call first):\n  File "<cell>", line 4 in grow'


def test_a_stack_is_whole_when_the_workers_frames_follow_those_of_the_task() -> None:
    said = 'in nblb/worker/\nStack (most recent call first):\n  File "<cell>", line 4 in grow\n'
    assert not has_whole_stack("")
    assert not has_whole_stack(said)
    assert has_whole_stack(said + '  File "/x/nblb/worker/calling.py", line 9 in call\n')


def test_the_kernels_counts_can_be_read() -> None:
    watch = OutOfMemoryWatch()
    assert watch.has_struck() is False


@pytest.mark.parametrize(
    ("reason", "memory"),
    [
        ("killed for memory: 900 MB of 512 MB; its last output: x", True),
        ("killed by the kernel for memory: 3.9 GB of 4.0 GB", True),
        ("it could not start: killed by signal 9 (SIGKILL), perhaps for memory: 3 GB of 4 GB", True),
        ("killed by signal 11 (SIGSEGV); its last output: killed for memory", False),
        ("exit code 3 (os._exit?)", False),
    ],
)
def test_which_deaths_were_for_memory(reason: str, memory: bool) -> None:
    assert is_for_memory(reason) is memory
