"""Bounds of live output: the head at once, then a limited rate, and always the tail."""

from __future__ import annotations

from nblb.hub.pool.output_reader import BURST_BYTES, TAIL_BYTES, Allowance, Throttle


def endless() -> Allowance:
    return Allowance(1e12, 1e12, 0.0)


def test_little_output_passes_at_once_and_unchanged() -> None:
    throttle = Throttle(endless(), 0.0)
    assert throttle.put(b"hello\n", 0.0) == "hello\n"
    assert throttle.end(1.0) == ""


def test_characters_that_were_cut_in_two_are_whole_again() -> None:
    throttle = Throttle(endless(), 0.0)
    data = "zwölf €".encode()
    text = "".join(throttle.put(data[n : n + 1], 0.0) for n in range(len(data)))
    assert text == "zwölf €"
    assert throttle.put(data[:3], 0.0) + throttle.end(0.0) == "zw\ufffd"


def test_a_flood_keeps_head_and_tail() -> None:
    throttle = Throttle(endless(), 0.0)
    passed = [throttle.put(f"{n:07}\n".encode() * 1000, 0.0) for n in range(100)]
    text = "".join(passed) + throttle.end(0.0)
    assert text.startswith("0000000\n")
    assert text.endswith("0000099\n")
    assert "characters left out" in text
    assert len(text) < BURST_BYTES + 2 * TAIL_BYTES
    left_out = int(text.partition("… ")[2].partition(" ")[0].replace(",", ""))
    assert left_out + len(text) - len(f"\n… {left_out:,} characters left out …\n") == 800_000


def test_a_steady_trickle_passes_for_ever() -> None:
    throttle = Throttle(endless(), 0.0)
    for second in range(1, 100):
        assert throttle.put(b"x" * 1000, float(second)) == "x" * 1000


def test_what_had_to_wait_passes_later() -> None:
    throttle = Throttle(endless(), 0.0)
    assert throttle.put(b"x" * BURST_BYTES, 0.0)
    assert throttle.put(b"more", 0.0) == ""
    assert throttle.is_waiting
    assert throttle.release(0.5) == "more"
    assert not throttle.is_waiting


def test_all_together_share_one_allowance() -> None:
    everybody = Allowance(1000.0, 1000.0, 0.0)
    one, other = Throttle(everybody, 0.0), Throttle(everybody, 0.0)
    assert one.put(b"x" * 900, 0.0)
    assert other.put(b"y" * 900, 0.0) == ""
    assert other.release(1.0) == "y" * 900
