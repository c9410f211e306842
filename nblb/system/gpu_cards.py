"""The GPUs that this process sees: which there are, what uses them, and the variables that show them to a process.

Cards of NVIDIA are asked for through NVML (package nvidia-ml-py, the extra "gpu"), cards of AMD through /sys. A
variable that hides cards from this process, such as the CUDA_VISIBLE_DEVICES of a batch job, hides them here as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

CUDA, ROCM = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
TOPOLOGY = Path("/sys/class/kfd/kfd/topology/nodes")
INSTALL = "install the package nvidia-ml-py in the hub's Python (pip install nblb[gpu])"


class GpuCard(msgspec.Struct, frozen=True):
    """A card, or a slice of one (MIG), by the name that a variable of its maker's library accepts."""

    id: str  # a UUID, or a number where no UUID is known
    name: str = ""
    memory_mb: int = 0  # 0: unknown
    variable: str = CUDA


class CardProcess(msgspec.Struct, frozen=True):
    """A process that uses a card."""

    pid: int
    used_mb: int = 0  # 0: unknown


class CardReading(msgspec.Struct, frozen=True):
    """What is in use on a card at one moment."""

    percent: float = -1.0  # of the time in which a kernel ran; -1: unknown, as for a slice of a card
    used_mb: int = 0
    processes: tuple[CardProcess, ...] = ()
    lost: str = ""  # why the card cannot be asked any more


class Nvml:
    """NVIDIA's management library, opened once for a process."""

    def __init__(self) -> None:
        self._nvml: Any = importlib.import_module("pynvml")
        self._nvml.nvmlInit()
        self._handles: dict[str, Any] = {}

    def cards(self) -> list[list[GpuCard]]:
        """Return the cards in the order of the bus, each as its slices if it is divided (MIG)."""
        found = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                found.append(self._slices(handle) or [self._card(handle)])
            except self._nvml.NVMLError:  # it has fallen off the bus: the others keep their numbers
                found.append([])
        return found

    def _slices(self, handle: Any) -> list[GpuCard]:
        nvml, found = self._nvml, []
        try:
            if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
                return []
            most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
        except nvml.NVMLError:  # this card knows no slices
            return []
        for number in range(most):
            try:
                found.append(self._card(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
            except nvml.NVMLError:  # no slice has this number
                continue
        return found

    def _card(self, handle: Any) -> GpuCard:
        uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
        self._handles[uuid] = handle
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return GpuCard(uuid, _text(self._nvml.nvmlDeviceGetName(handle)), int(memory.total) >> 20)

    def read(self, card: GpuCard) -> CardReading:
        """Return what is in use on a card that `cards` has returned."""
        nvml, handle = self._nvml, self._handles.get(card.id)
        if handle is None:
            return CardReading()
        percent, processes = -1.0, []
        try:
            used_mb = int(nvml.nvmlDeviceGetMemoryInfo(handle).used) >> 20
        except nvml.NVMLError as error:
            return CardReading(lost=str(error))
        try:
            percent = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        except nvml.NVMLError:
            pass  # a slice has no figure of its own
        for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            try:
                processes += [CardProcess(one.pid, int(one.usedGpuMemory or 0) >> 20) for one in ask(handle)]
            except nvml.NVMLError:
                continue
        return CardReading(percent, used_mb, tuple({one.pid: one for one in processes}.values()))


def open_nvml() -> Nvml | str:
    """Return NVML; a sentence if it cannot be used here."""
    try:
        return Nvml()
    except ImportError:
        return f"this hub cannot ask for its GPUs: {INSTALL}"
    except Exception as error:  # NVMLError, of a module whose classes are not known here
        return f"NVML finds no GPU here: {error}"


def visible_cards(nvml: Nvml | str, environment: Mapping[str, str], topology: Path = TOPOLOGY) -> list[GpuCard]:
    """Return the cards that a process with these variables sees."""
    amd = _shown(_of_amd(topology), environment.get(ROCM))
    if not isinstance(nvml, str):
        return [*_shown(nvml.cards(), environment.get(CUDA)), *amd]
    return amd or _told(environment.get(CUDA, ""))


def named_cards(names: Sequence[int | str], cards: Sequence[GpuCard]) -> list[GpuCard]:
    """Return the cards with these numbers in `cards`, or these UUIDs; if `cards` is empty, cards of these names."""
    found: list[GpuCard] = []
    for name in names:
        if isinstance(name, int) and cards:
            found += cards[name : name + 1] if name >= 0 else []
        else:
            found += [card for card in cards if card.id.startswith(str(name))][:1] or (
                [] if cards else [GpuCard(str(name))]
            )
    return found


def variables(cards: Sequence[GpuCard]) -> dict[str, str]:
    """Return the variables with which a process sees these cards and no others."""
    of = {variable: ",".join(card.id for card in cards if card.variable == variable) for variable in (CUDA, ROCM)}
    return {ORDER: "PCI_BUS_ID", **of}


def _told(visible: str) -> list[GpuCard]:
    """Return the cards that a batch system has named in CUDA_VISIBLE_DEVICES, where NVML cannot be asked."""
    names = (name.strip() for name in visible.split(","))
    return [GpuCard(name) for name in names if name and name not in ("-1", "NoDevFiles", "none", "void")]


def _shown(found: Sequence[Sequence[GpuCard]], visible: str | None) -> list[GpuCard]:
    """Return those of the cards that a variable shows; like CUDA, this stops at the first name that is unknown."""
    if visible is None:
        return [card for slices in found for card in slices]
    shown: list[GpuCard] = []
    for name in (name.strip() for name in visible.split(",") if name.strip()):
        if name.isdecimal():
            slices = list(found[int(name)]) if int(name) < len(found) else []
        else:
            slices = [card for each in found for card in each if card.id.startswith(name)][:1]
        if not slices:
            break
        shown += slices
    return list(dict.fromkeys(shown))


def _of_amd(topology: Path) -> list[list[GpuCard]]:
    """Return AMD's cards, by the numbers of their nodes; an integrated one may have no UUID."""
    found: list[list[GpuCard]] = []
    for node in sorted(topology.glob("*"), key=lambda path: (len(path.name), path.name)):
        try:
            lines = (line.split() for line in (node / "properties").read_text().splitlines())
            properties = {line[0]: line[1] for line in lines if len(line) == 2}
            if not int(properties.get("simd_count", 0)):
                continue  # a processor
            unique, size = int(properties.get("unique_id", 0)), _memory_mb(node)
        except (OSError, ValueError):
            continue
        name = f"GPU-{unique:016x}" if unique else str(len(found))
        found.append([GpuCard(name, "AMD GPU", size, ROCM)])
    return found


def _memory_mb(node: Path) -> int:
    try:
        lines = (node / "mem_banks" / "0" / "properties").read_text().split()
        return int(lines[lines.index("size_in_bytes") + 1]) >> 20
    except (OSError, ValueError, IndexError):
        return 0


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
