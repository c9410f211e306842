"""A module like NVIDIA's pynvml with cards that tests make up, so that no GPU is needed."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import Any

MB = 1 << 20


@dataclass
class FakeCard:
    """A card, or a slice of one."""

    uuid: str
    name: str = "NVIDIA T4"
    total_mb: int = 16_000
    used_mb: int = 0
    percent: int = 0
    processes: dict[int, int] = field(default_factory=dict)  # pid -> MB
    slices: list[FakeCard] = field(default_factory=list)
    most_slices: int = 0
    is_slice: bool = False
    lost: bool = False


def module(*cards: FakeCard) -> types.ModuleType:
    """Return a module `pynvml` with these cards."""

    class NVMLError(Exception):
        """What NVML raises."""

    def of(card: FakeCard) -> FakeCard:
        if card.lost:
            raise NVMLError("GPU is lost")
        return card

    def slice_of(card: FakeCard, number: int) -> FakeCard:
        if number >= len(card.slices):
            raise NVMLError("Not Found")
        return card.slices[number]

    def mig_mode(card: FakeCard) -> list[int]:
        if not card.most_slices:
            raise NVMLError("Not Supported")
        return [int(bool(card.slices)), int(bool(card.slices))]

    def rates(card: FakeCard) -> Any:
        if card.is_slice:
            raise NVMLError("Not Supported")
        return types.SimpleNamespace(gpu=of(card).percent)

    def memory(card: FakeCard) -> Any:
        return types.SimpleNamespace(total=of(card).total_mb * MB, used=card.used_mb * MB)

    def running(card: FakeCard) -> list[Any]:
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=mb * MB) for pid, mb in of(card).processes.items()]

    def graphics(_card: FakeCard) -> list[Any]:
        raise NVMLError("Not Supported")

    made = types.ModuleType("pynvml")
    made.__dict__.update(
        NVMLError=NVMLError,
        NVML_DEVICE_MIG_ENABLE=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=lambda index: of(cards[index]),
        nvmlDeviceGetMigMode=mig_mode,
        nvmlDeviceGetMaxMigDeviceCount=lambda card: card.most_slices,
        nvmlDeviceGetMigDeviceHandleByIndex=slice_of,
        nvmlDeviceGetUUID=lambda card: card.uuid,
        nvmlDeviceGetName=lambda card: card.name,
        nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetUtilizationRates=rates,
        nvmlDeviceGetComputeRunningProcesses=running,
        nvmlDeviceGetGraphicsRunningProcesses=graphics,
    )
    return made


def two_cards() -> tuple[FakeCard, FakeCard]:
    return FakeCard("GPU-aaaa"), FakeCard("GPU-bbbb")


def seven_slices() -> FakeCard:
    """A card that is divided into seven."""
    slices = [FakeCard(f"MIG-{n}", "NVIDIA A100 MIG 1g.5gb", 4_800, is_slice=True) for n in range(7)]
    return FakeCard("GPU-cccc", "NVIDIA A100", 40_000, slices=slices, most_slices=7)
