"""Reports: one HTML file that needs nothing else."""

from __future__ import annotations

import re

import pytest

from nblb.errors import UnknownTask
from nblb.monitoring.report import job_report, time_report
from tests.monitoring.fake_source import NASTY, FakeSource


def is_self_contained(text: str) -> bool:
    return not re.search(r"<[^>]*\b(src|href)=|<script|url\(|@import", text) and "default-src 'none'" in text


def test_of_a_job() -> None:
    source = FakeSource()
    text = job_report(source.ask, "j1", "anna")
    assert is_self_contained(text)
    for words in ("Job sweep", "▶ running", "6,190", "x must not be …", "60 cells done", "<dt>Failed</dt><dd>12</dd>"):
        assert words in text
    assert NASTY not in text


def test_of_a_job_that_is_not_known() -> None:
    source = FakeSource()
    with pytest.raises(UnknownTask, match="no job 'gone'"):
        job_report(source.ask, "gone")


def test_of_a_time() -> None:
    source = FakeSource()
    text = time_report(source.ask, 3600.0)
    assert is_self_contained(text)
    for words in ("Cluster lab-5799", "26 min", "67 %", "sweep", "≈ 3 s"):
        assert words in text
    assert NASTY not in text
    assert text.count("<svg") == 3
    path = re.search(r'<path d="([^"]*)"', text)
    assert path is not None
    assert path[1].count("M") == 2, "a gap is a gap"
