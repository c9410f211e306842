"""Kinds of objects defined in a cell that pickle or cloudpickle cannot send, or sends wrongly."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from nblb import payload
from nblb.protocol.framing import Payload

CELL = """
    import dataclasses, enum, functools, typing

    class Flags(enum.IntFlag):
        A = 1; B = 2; D = 12
    class Strict(enum.Flag):
        A = 1; B = 2; AB = 3
    class Probe(enum.Flag, **({"boundary": enum.KEEP} if hasattr(enum, "KEEP") else {})):
        A = 1
    # Since Python 3.11.4: those before do not find such a member again. An IntFlag does what the other does.
    keeps = hasattr(enum, "KEEP") and Probe(6) is Probe(6)
    class Kept(enum.Flag if keeps else enum.IntFlag, **({"boundary": enum.KEEP} if keeps else {})):
        A = 1
    class Planet(enum.Enum):
        EARTH = (1, 2); MARS = (3, 4); WORLD = (1, 2)
        def __init__(self, a, b): self.a, self.b = a, b
        @property
        def total(self): return self.a + self.b
    class Lab(enum.Enum):
        def __new__(cls, value, label):
            made = object.__new__(cls); made._value_ = value; made.label = label
            return made
        A = (1, "a"); B = (2, "b")

    @dataclasses.dataclass(slots=True)
    class Slotted:
        x: int
        y: list = dataclasses.field(default_factory=list)
        def total(self): return self.x + len(self.y)
    @dataclasses.dataclass(slots=True, frozen=True, order=True)
    class Frozen:
        x: int = 1
    class Private:
        __slots__ = ("__p", "q")
        def __init__(self): self.__p, self.q = 1, 2
        def get(self): return self.__p
    class Below(Private):
        __slots__ = ()
        def get(self): return super().get() + 1
    class Typed(typing.NamedTuple):
        a: int
        b: str = "x"
    Number = typing.NewType("Number", int)

    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.b = b
    class Missing(FileNotFoundError):
        def __init__(self, path): super().__init__(2, "not here", path)

    @functools.cache
    def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
    @functools.lru_cache(maxsize=3, typed=True)
    def bounded(n): return n
    bounded.note = "kept"
    @functools.singledispatch
    def kind(x): return "other"
    @kind.register
    def _(x: int): return "int " + kind("a")
    @kind.register(list)
    def _(x): return [kind(each) for each in x]
    class Cached:
        @functools.cached_property
        def value(self): return 5
        @staticmethod
        @functools.lru_cache
        def plus(x): return x + 1
        @functools.singledispatchmethod
        def of(self, x): return "any"
        @of.register
        def _(self, x: int): return "int"
"""
VALUES = [
    "Flags(7) | Flags(64)", "~Flags.A", "Flags(0)", "Flags(1 << 40)", "[*Flags]", "Strict(0)", "Strict.AB", "Kept(6)",
    "Planet.WORLD", "Lab.B", "Slotted(1, [2])", "Frozen(5)", "Typed(1)", "Flags", "Strict.__members__['AB']",
]  # fmt: skip
CALLS = [
    "Planet.EARTH.total, Planet.WORLD is Planet.EARTH",
    "Lab.B.label",
    "Slotted(1, [2]).total(), hasattr(Slotted(1), '__dict__')",
    "Private().get(), Below().get(), hasattr(Below(), '__dict__')",
    "Number(3)",
    "Odd(1, 2).b, Odd(1, 2).args",
    "fib(50)",
    "bounded(2), bounded.cache_parameters(), bounded.note, bounded.cache_info().maxsize",
    "kind([1, 'a'])",
    "kind.__name__, sorted(map(str, kind.registry))",
    "Cached().value, Cached.plus(1), Cached().of(1), Cached().of('a')",
    "dataclasses.replace(Slotted(1), x=3)",
    "Missing('p').filename, Missing('p').errno",
]
THERE = """
import sys
from nblb import payload
from nblb.protocol.framing import Payload
function = payload.load_function(Payload.frombytes(sys.stdin.buffer.read()))
sys.stdout.buffer.write(payload.pack_results([function()]).tobytes())
"""


@pytest.fixture(scope="module")
def cell() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(CELL), names)
    return names


def there_and_back(function: Any) -> Any:
    """What the function gives in a process that knows nothing of this one."""
    _, blob = payload.dump_function(function)
    done = subprocess.run(
        [sys.executable, "-c", THERE],
        input=blob.tobytes(),
        capture_output=True,
        timeout=60,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd="/",
    )
    assert done.returncode == 0, done.stderr.decode()
    return payload.unpack_results(Payload.frombytes(done.stdout))[0]


def test_values_go_there_and_come_back(cell: dict[str, Any]) -> None:
    values = [eval(expression, cell) for expression in VALUES]
    back = there_and_back(lambda: values)
    assert [type(each) for each in back] == [type(each) for each in values]
    for given, came in zip(values, back, strict=True):
        assert came == given
    raised = there_and_back(lambda: (cell["Odd"](1, 2), cell["Missing"]("p")))
    assert (raised[0].args, raised[0].b, type(raised[0]) is cell["Odd"]) == ((1,), 2, True)
    assert (raised[1].filename, raised[1].errno) == ("p", 2)


def test_code_does_there_what_it_does_here(cell: dict[str, Any]) -> None:
    exec(f"def everything(): return [{', '.join(f'({call})' for call in CALLS)}]", cell)
    everything = cell["everything"]
    assert there_and_back(everything) == everything()


def test_arguments_of_these_kinds(cell: dict[str, Any]) -> None:
    values = [eval(expression, cell) for expression in VALUES]
    packed = payload.pack_call((values, cell["fib"]), {}).payload.tobytes()

    def opened() -> Any:
        from nblb import payload
        from nblb.protocol.framing import Payload

        (found, fib), _ = payload.load_constant(Payload.frombytes(packed))
        return found, fib(20)

    assert there_and_back(opened) == (values, 6765)
