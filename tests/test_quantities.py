"""The texts for durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nblb.quantities import duration, gpu, seconds_of, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0032, "3 ms"),
        (0.42, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (245, "4 min 5 s"),
        (660, "11 min"),
        (11_100, "3 h 5 min"),
        (90_000, "25 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (65_536, "64 kB"),
        (1_048_000, "1.0 MB"),
        (103 * 2**20, "103 MB"),
        (8 * 2**30, "8.0 GB"),
        (2**60, "1,048,576 TB"),
    ],
)
def test_sizes(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


@given(st.floats(0, 1e9), st.floats(1, 2))
def test_longer_times_never_read_as_shorter_units(seconds: float, factor: float) -> None:
    units = ["ms", "s", "min", "h"]
    first, second = (units.index(duration(each).split()[1]) for each in (seconds, seconds * factor))
    assert first <= second


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ({"id": "GPU-a"}, "GPU-a"),
        ({"id": "GPU-a", "name": "T4", "percent": -1.0, "memory_mb": 16384, "used_mb": 512}, "T4: 512 MB of 16 GB"),
        ({"name": "T4", "lost": "GPU is lost"}, "T4: lost (GPU is lost)"),
        (
            {"name": "T4", "percent": 3.0, "outside_mb": 18 << 10, "outside": ["bob"]},
            "T4: 3 %, 18 GB of this card are used outside the queue, by account bob",
        ),
    ],
)
def test_gpus(card: dict[str, object], text: str) -> None:
    assert gpu(card) == text


def test_lengths_of_time_that_people_write() -> None:
    assert [seconds_of(text) for text in ("90s", "30m", "2h", "7d", " 1.5 h ", "15", "0")] == [
        90.0, 1800.0, 7200.0, 604_800.0, 5400.0, 15.0, 0.0,
    ]  # fmt: skip
    for wrong in ("", "h", "2x", "-1h", "nan", "inf", "1e400"):
        with pytest.raises(ValueError, match="is no length of time"):
            seconds_of(wrong)
