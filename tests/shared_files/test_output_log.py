"""The output that a hub wrote is read completely and in order, with a note where some is missing."""

from __future__ import annotations

from pathlib import Path

from nblb.hub.pool.output_store import OutputStore
from nblb.hub.pool.worker_handle import Key, WorkerHandle
from nblb.shared_files.output_log import Following, KeptOutput, Piece, decoded, folder_name, latest, size


class Seat:
    """As much of a WorkerSeat as the store looks at."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}
        self.kept_key: Key = ("", 0, 0)


def handle() -> WorkerHandle:
    return Seat()  # type: ignore[return-value]


def store(folder: Path, max_mb: int = 100, total_mb: int = 1000) -> OutputStore:
    made = OutputStore(max_mb, total_mb, False, lambda *_: None)
    made.open(str(folder))
    made._reserve = 0  # whatever the machine's disk is like
    return made


def texts(pieces: list[Piece]) -> str:
    return "".join(decoded(iter(pieces)))


def test_streams_are_told_apart_and_kept_in_their_order(tmp_path: Path) -> None:
    hub, worker, key = store(tmp_path), handle(), ("r", 0, 1)
    for stream, data in (("stdout", b"a\n"), ("stderr", "\u20ac".encode()[:1]), ("stdout", b"b\n")):
        hub.write(worker, key, 0, stream, data)
    hub.write(worker, key, 0, "stderr", "\u20ac".encode()[1:])
    kept = KeptOutput(str(tmp_path), "r", 0)
    assert kept
    assert "".join(kept.text()) == "a\nb\n\u20ac"
    assert "".join(kept.text("stdout")) == "a\nb\n"
    assert "".join(kept.text("stderr")) == "\u20ac"
    assert kept.nbytes() == {"stdout": 4, "stderr": 3}
    hub.end(worker)
    assert not KeptOutput(str(tmp_path), "other", 0)


def test_items_of_a_slice_and_attempts(tmp_path: Path) -> None:
    hub, worker = store(tmp_path), handle()
    hub.write(worker, ("r", 0, 1), 2, "stdout", b"item 2, first try\n")
    hub.write(worker, ("r", 0, 1), 3, "stdout", b"item 3\n")
    hub.write(worker, ("r", 2, 2), 0, "stdout", b"item 2 again\n")
    hub.write(worker, ("r", 10, 1), 0, "stdout", b"item 10\n")
    assert "".join(KeptOutput(str(tmp_path), "r", 2).text()) == "item 2, first try\nitem 2 again\n"
    assert "".join(KeptOutput(str(tmp_path), "r", 3).text()) == "item 3\n"
    assert "".join(KeptOutput(str(tmp_path), "r", 10).text()) == "item 10\n"
    assert not KeptOutput(str(tmp_path), "r", 1)
    hub.end(worker)


def test_what_is_within_the_bound_is_whole_and_beyond_it_head_and_tail(tmp_path: Path) -> None:
    hub, worker, key = store(tmp_path, max_mb=1), handle(), ("r", 0, 1)
    lines = [f"{number:07}\n".encode() * 1024 for number in range(127)]
    for line in lines:
        hub.write(worker, key, 0, "stdout", line)
    kept = KeptOutput(str(tmp_path), "r", 0)
    assert "".join(kept.text("stdout")).encode() == b"".join(lines)
    more = [f"{number:07}\n".encode() * 1024 for number in range(127, 1000)]
    for line in more:
        hub.write(worker, key, 0, "stdout", line)
    text = "".join(kept.text("stdout"))
    assert text.startswith("0000000\n")
    assert text.endswith("0000999\n")
    head, _, rest = text.partition("\n\u2026 ")
    said, _, tail = rest.partition(" not kept \u2026\n")
    assert said == size(1000 * (8192 + 12) - len(head) - len(tail) - 12 * ((len(head) + len(tail)) // 8192))
    assert len(text) > 0.8 * (1 << 20)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) <= (1 << 20) + 9 * 16
    assert kept.tail(2) == "0000999\n" * 2
    assert kept.tail(10_000_000) == text
    assert kept.tail(0) == ""
    hub.end(worker)


def test_late_words_go_on_behind_what_was_written(tmp_path: Path) -> None:
    hub, worker, key = store(tmp_path), handle(), ("r", 0, 1)
    hub.write(worker, key, 0, "stdout", b"in time\n")
    hub.end(worker)
    hub.write(worker, key, 0, "stdout", b"late\n")
    hub.end(worker)
    assert "".join(KeptOutput(str(tmp_path), "r", 0).text()) == "in time\nlate\n"


def test_following_tells_only_what_is_new(tmp_path: Path) -> None:
    hub, worker, key = store(tmp_path, max_mb=1), handle(), ("r", 0, 1)
    following = Following(str(tmp_path), "r", 0)
    assert texts(list(following.new())) == ""
    hub.write(worker, key, 0, "stdout", b"one\n")
    assert texts(list(following.new())) == "one\n"
    assert texts(list(following.new())) == ""
    for number in range(100):
        hub.write(worker, key, 0, "stdout", b"%d\n" % number * 10_000)
    text = texts(list(following.new()))
    assert text.startswith("0\n0\n")
    assert "not kept" in text
    hub.write(worker, ("r", 0, 2), 0, "stderr", b"again\n")
    assert texts(list(following.new())) == "again\n"
    hub.end(worker)


def test_a_chunk_that_is_not_complete_is_not_read(tmp_path: Path) -> None:
    hub, worker, key = store(tmp_path), handle(), ("r", 0, 1)
    hub.write(worker, key, 0, "stdout", b"whole\n")
    hub.write(worker, key, 0, "stdout", b"torn\n")
    hub.end(worker)
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    file.write_bytes(file.read_bytes()[:-2])
    assert "".join(KeptOutput(str(tmp_path), "r", 0).text()) == "whole\n"
    file.write_bytes(b"something else altogether")
    assert "".join(KeptOutput(str(tmp_path), "r", 0).text()) == ""


def test_displays_have_files_of_their_own_and_a_job_finds_the_latest(tmp_path: Path) -> None:
    hub, worker = store(tmp_path), handle()
    for number in range(3):
        key = (f"r{number}", 5, 1)
        hub.write(worker, key, number, "display", f'{{"n": {number}}}'.encode())
        hub.write(worker, key, number, "stdout", b"x" * 1000)
    hub.end(worker)
    assert KeptOutput(str(tmp_path), "r1", 6).displays(50) == ['{"n": 1}']
    found = list(latest(str(tmp_path), ["r0", "r1", "r2", "none"], "shown", 10_000))
    assert sorted((record, item) for record, item, _ in found) == [("r0", 5), ("r1", 6), ("r2", 7)]
    assert len(list(latest(str(tmp_path), ["r0", "r1", "r2"], "said", 1500))) == 2


def test_any_id_makes_the_name_of_a_folder() -> None:
    assert folder_name("0a-b_C") == "0a-b_C"
    odd = [folder_name(name) for name in ("..", "", "a/b", "a\x00b", "x" * 200, "\ud800", "x.y")]
    assert len(set(odd)) == len(odd)
    assert all("/" not in name and len(name) == 34 for name in odd)
