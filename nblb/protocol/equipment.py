"""What each worker of a group has beside its processor (GPUs, memory, features), and what a task needs of it."""

from __future__ import annotations

from math import isfinite

import msgspec

MOST_FEATURES = 64
MOST_NAME = 100  # characters of a feature's name
MOST_GPUS = 1024
GPU_WORKERS = "gpu"  # the class of all workers with GPUs


class Needs(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a task needs of its worker."""

    gpus: float = 0.0  # cards, or below 1 a part of one
    memory_mb: int = 0
    features: tuple[str, ...] = ()  # sorted

    def __str__(self) -> str:
        """Return the needs as options of a task: "gpus=1, needs=['matlab']"."""
        parts = [f"gpus={self.gpus:g}"] if self.gpus else []
        parts += [f"memory_mb={self.memory_mb}"] if self.memory_mb else []
        parts += [f"needs={list(self.features)!r}"] if self.features else []
        return ", ".join(parts)


class Equipment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What each worker of a group has."""

    gpus: float = 0.0
    memory_mb: int = 0  # 0: not limited, or not known
    features: tuple[str, ...] = ()
    reserved: bool = False  # it runs only tasks that need GPUs, features or memory that it has

    @property
    def size(self) -> tuple[float, int, int]:
        """A key that sorts the least equipment first."""
        return self.gpus, len(self.features) + self.reserved, self.memory_mb

    @property
    def worker_class(self) -> str:
        """The class in which fair share counts these workers; "" for those that take all tasks."""
        if self.gpus:
            return GPU_WORKERS
        return "reserved " + " ".join(self.features) if self.reserved else ""

    def takes(self, needs: Needs | None) -> bool:
        """Return whether such workers run a task with these needs."""
        if needs is None:
            return not self.reserved
        if needs.gpus > self.gpus or not set(self.features).issuperset(needs.features):
            return False
        if self.memory_mb and needs.memory_mb > self.memory_mb:
            return False
        return not self.reserved or self._is_used_by(needs)

    def _is_used_by(self, needs: Needs) -> bool:
        """Return whether the task needs the best of what these workers are reserved for."""
        if self.gpus:
            return needs.gpus > 0
        return bool(needs.features) if self.features else needs.memory_mb > 0

    def __str__(self) -> str:
        """Return what a worker has, for people: "0.5 GPU, 8,000 MB, avx512"."""
        parts = [f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        parts += [f"{self.memory_mb:,} MB"] if self.memory_mb else []
        return ", ".join((*parts, *self.features))


def class_of(needs: Needs | None) -> str:
    """Return the class of the workers that most likely ran a task with these needs."""
    return GPU_WORKERS if needs is not None and needs.gpus else ""


def checked_needs(gpus: object = 0, memory_mb: object = 0, needs: object = ()) -> Needs | None:
    """Return the needs that these options of a task state; None if there are none.

    Raises
    ------
    TypeError, ValueError
        An option has a wrong type or value; the text says which, and what it must be.
    """
    if isinstance(gpus, bool) or not isinstance(gpus, (int, float)):
        raise TypeError(f"gpus is {gpus!r}; it must be a number: 1 for a card, 0.5 for half of one")
    if not isfinite(gpus) or gpus < 0 or gpus > MOST_GPUS or (gpus > 1 and gpus != int(gpus)):
        raise ValueError(f"gpus is {gpus!r}; it must be a part of a card, such as 0.5, or a whole number of cards")
    if isinstance(memory_mb, bool) or not isinstance(memory_mb, int):
        raise TypeError(f"memory_mb is {memory_mb!r}; it must be a whole number of MB")
    if not 0 <= memory_mb < 1 << 40:
        raise ValueError(f"memory_mb is {memory_mb!r}; it must be 0 or more")
    found = Needs(float(gpus), memory_mb, checked_features(needs))
    return None if found == NOTHING else found


def checked_features(needs: object) -> tuple[str, ...]:
    """Return the names of features, sorted."""
    names = [needs] if isinstance(needs, str) else needs
    if not isinstance(names, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"needs is {needs!r}; it must be a list of names of features, such as ['matlab']")
    for name in names:
        if not name.strip() or len(name) > MOST_NAME or not name.isprintable():
            raise ValueError(f"needs has {name!r}; a feature has a name of 1 to {MOST_NAME} printable characters")
    if len(names) > MOST_FEATURES:
        raise ValueError(f"needs has {len(names)} features; at most {MOST_FEATURES} are allowed")
    return tuple(sorted(set(names)))


def refusal(needs: Needs) -> str:
    """Return why a core refuses needs that another program has sent; "" if they are valid."""
    try:
        checked = checked_needs(needs.gpus, needs.memory_mb, needs.features)
    except (TypeError, ValueError) as error:
        return str(error)
    return "" if checked == needs else f"needs must have sorted features and state something, and are {needs!r}"


NOTHING = Needs()
PLAIN = Equipment()
