"""The instruction counts of the paths that every task takes do not grow unnoticed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.benchmarks import instructions
from tests.benchmarks.instructions import AGAIN, KEPT, PLANTED, TOLERANCE, build, count, keep, kept, more
from tests.benchmarks.trips import WORKLOADS

PATIENCE_S = 240.0  # it needs 13 s of CPU time
pytestmark = pytest.mark.timeout(PATIENCE_S + 30)


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed, which counts instructions")
    if not kept():
        pytest.skip(f"no numbers are kept for {build()}; {AGAIN!r} adds them")
    try:
        return count(PATIENCE_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"this machine is too busy to count instructions within {PATIENCE_S:.0f} s")


def test_no_path_takes_more_than_it_did(counts: dict[str, int]) -> None:
    before = kept()
    assert set(before) == set(WORKLOADS), f"a workload has come or gone: {AGAIN}"
    grown = more(counts, before)
    listed = ", ".join(
        f"{name} {growth:+.0%} ({counts[name]:,} for {before[name]:,})" for name, growth in grown.items()
    )
    assert not grown, f"more instructions a unit than before: {listed}. If that is its price: {AGAIN}"


def test_a_little_planted_work_is_too_much(counts: dict[str, int]) -> None:
    """Twenty iterations of an empty loop for each task, less than half a microsecond, are detected."""
    grown = more({PLANTED: counts["planted"]}, kept())
    assert grown[PLANTED] > TOLERANCE


def test_each_build_has_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("kept") / "instructions.json"
    path.write_text(KEPT.read_text())
    monkeypatch.setattr(instructions, "KEPT", path)
    before = kept()
    monkeypatch.setattr(instructions, "build", lambda: "CPython 9.9, made yesterday")
    assert kept() == {}
    keep({"pack_call": 7})
    assert kept() == {"pack_call": 7}
    monkeypatch.undo()
    monkeypatch.setattr(instructions, "KEPT", path)
    assert kept() == before


def test_what_has_grown() -> None:
    before = {"a": 1000, "b": 1000, "c": 1000}
    assert more({"a": 1099, "b": 1111, "c": 10}, before) == {"b": pytest.approx(0.111)}
