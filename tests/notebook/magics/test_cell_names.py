from __future__ import annotations

import pytest

from nblb.notebook.magics.cell_names import names


@pytest.mark.parametrize(
    ("source", "reads", "binds"),
    [
        ("y = x + 1", {"x"}, {"y"}),
        ("x = x + 1", {"x"}, {"x"}),
        ("x += 1", {"x"}, {"x"}),
        ("x = 1\nprint(x)", {"print"}, {"x"}),
        ("import numpy as np\nnp.zeros(n)", {"n"}, {"np"}),
        ("def f(a):\n    return a + g\nf(2)", {"g"}, {"f"}),
        ("for i in values:\n    t = i\nt", {"values", "t"}, {"i", "t"}),
        ("if c:\n    a = 1\nelse:\n    a = 2\na", {"c"}, {"a"}),
        ("if c:\n    a = 1\na", {"c", "a"}, {"a"}),
        ("[i * k for i in data]", {"data", "k"}, set()),
        ("with open(p) as f:\n    z = f.read()\nz", {"open", "p"}, {"f", "z"}),
        ("try:\n    q = h()\nexcept E as e:\n    q = e\nq", {"h", "E", "q"}, {"q", "e"}),
        ("class A:\n    b = c\n    def m(self): return d", {"c", "d"}, {"A"}),
        ("def f():\n    global G\n    G = 1", set(), {"f", "G"}),
        ("match v:\n    case [a, b]:\n        r = a", {"v"}, {"a", "b", "r"}),
        ("del x", {"x"}, {"x"}),
        ("(w := u)", {"u"}, {"w"}),
        ("lambda s: s + m", {"m"}, set()),
    ],
)
def test_what_a_cell_reads_and_binds(source: str, reads: set[str], binds: set[str]) -> None:
    found = names(source)
    assert (found.reads, found.binds) == (reads, binds)


def test_what_is_not_python_is_said() -> None:
    with pytest.raises(SyntaxError):
        names("x = = 2")
