"""The GPUs that a process sees, by a fake NVML and a fake /sys."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from nblb.system.gpu_cards import CUDA, ROCM, GpuCard, Nvml, named_cards, open_nvml, variables, visible_cards
from tests.fake_pynvml import FakeCard, module, seven_slices, two_cards

NOWHERE = Path("/nonexistent")


def opened(monkeypatch: pytest.MonkeyPatch, *cards: FakeCard) -> Nvml:
    monkeypatch.setitem(sys.modules, "pynvml", module(*cards))
    nvml = open_nvml()
    assert isinstance(nvml, Nvml)
    return nvml


def ids(nvml: Nvml | str, topology: Path = NOWHERE, **environment: str) -> list[str]:
    return [card.id for card in visible_cards(nvml, environment, topology)]


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb"]),
        ("1", ["GPU-bbbb"]),
        ("1,0", ["GPU-bbbb", "GPU-aaaa"]),
        ("GPU-bb", ["GPU-bbbb"]),
        ("1,7,0", ["GPU-bbbb"]),  # CUDA stops at the first name that it does not know
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_a_variable_from_outside_hides_cards(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, shown: list[str]
) -> None:
    nvml = opened(monkeypatch, *two_cards())
    assert ids(nvml, **({} if visible is None else {CUDA: visible})) == shown


def test_a_divided_card_is_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = opened(monkeypatch, FakeCard("GPU-aaaa"), seven_slices())
    slices = [f"MIG-{n}" for n in range(7)]
    assert ids(nvml) == ["GPU-aaaa", *slices]
    assert ids(nvml, CUDA_VISIBLE_DEVICES="1") == slices
    assert ids(nvml, CUDA_VISIBLE_DEVICES="MIG-3") == ["MIG-3"]
    (last,) = visible_cards(nvml, {CUDA: "MIG-6"}, NOWHERE)
    assert (last.memory_mb, nvml.read(last).percent) == (4_800, -1.0)


def test_a_card_that_is_lost_at_the_start_keeps_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_cards()
    first.lost = True
    nvml = opened(monkeypatch, first, second)
    assert ids(nvml) == ids(nvml, CUDA_VISIBLE_DEVICES="1") == ["GPU-bbbb"]
    assert ids(nvml, CUDA_VISIBLE_DEVICES="0") == []


def test_what_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_cards()
    first.used_mb, first.percent, first.processes = 900, 55, {12: 700, 13: 0}
    nvml = opened(monkeypatch, first, second)
    one, other = visible_cards(nvml, {}, NOWHERE)
    reading = nvml.read(one)
    assert (reading.percent, reading.used_mb) == (55.0, 900)
    assert {each.pid: each.used_mb for each in reading.processes} == {12: 700, 13: 0}
    second.lost = True
    assert nvml.read(other).lost == "GPU is lost"
    assert not nvml.read(GpuCard("unknown")).lost


def test_without_the_package_the_text_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    missing = open_nvml()
    assert isinstance(missing, str)
    assert "pip install nblb[gpu]" in missing
    assert ids(missing) == []
    assert ids(missing, CUDA_VISIBLE_DEVICES="2,3") == ["2", "3"]  # Slurm has named them
    assert ids(missing, CUDA_VISIBLE_DEVICES="NoDevFiles") == []


def test_without_a_driver_the_text_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("pynvml")

    def init() -> None:
        raise RuntimeError("Driver Not Loaded")

    broken.__dict__["nvmlInit"] = init
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert open_nvml() == "NVML finds no GPU here: Driver Not Loaded"


def amd(folder: Path) -> Path:
    """A processor and two cards, of which one has no UUID."""
    for node, (simds, unique) in enumerate([(0, 0), (240, 0xABC), (8, 0)]):
        bank = folder / str(node) / "mem_banks" / "0"
        bank.mkdir(parents=True)
        (folder / str(node) / "properties").write_text(f"simd_count {simds}\nunique_id {unique}\n")
        (bank / "properties").write_text(f"heap_type 1\nsize_in_bytes {8 << 30}\n")
    (folder / "3").mkdir()
    return folder


def test_cards_of_amd(tmp_path: Path) -> None:
    topology = amd(tmp_path)
    cards = visible_cards("no NVML", {CUDA: "0"}, topology)  # some batch systems set both variables
    assert [(card.id, card.memory_mb, card.variable) for card in cards] == [
        ("GPU-0000000000000abc", 8192, ROCM),
        ("1", 8192, ROCM),
    ]
    assert ids("no NVML", topology, ROCR_VISIBLE_DEVICES="1") == ["1"]
    assert ids("no NVML", topology, ROCR_VISIBLE_DEVICES="") == []


def test_the_variables_of_a_worker() -> None:
    both = variables([GpuCard("GPU-aaaa"), GpuCard("7", variable=ROCM)])
    assert both == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", CUDA: "GPU-aaaa", ROCM: "7"}
    assert variables([]) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", CUDA: "", ROCM: ""}


def test_cards_by_number_and_name() -> None:
    cards = [GpuCard("GPU-aaaa"), GpuCard("GPU-bbbb")]
    assert named_cards([1, "GPU-a"], cards) == cards[::-1]
    assert named_cards([2, "GPU-x"], cards) == []
    assert named_cards([2, "GPU-x"], []) == [GpuCard("2"), GpuCard("GPU-x")]
