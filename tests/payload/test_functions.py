"""Functions as blobs: what is sent by value, and what their hash and fingerprint depend on."""

from __future__ import annotations

import linecache
import math
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nblb import payload
from nblb.errors import NotSerializable

FACTOR = 2


def module_function(x: int) -> int:
    return x * FACTOR


def made(source: str, name: str = "f", filename: str = "<string>") -> Callable[..., Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(source), filename, "exec", dont_inherit=True), namespace)
    return namespace[name]  # type: ignore[no-any-return]


def elsewhere(function: Callable[..., Any], call: str) -> str:
    """What a call of the function gives in a process that knows nothing of this one's modules."""
    _, blob = payload.dump_function(function)
    code = (
        "import sys; from nblb.protocol.framing import Payload; from nblb.payload import load_function\n"
        f"f = load_function(Payload.frombytes(sys.stdin.buffer.read())); print({call})"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-P", "-c", code] if sys.version_info >= (3, 11) else [sys.executable, "-c", code],
        input=blob.tobytes(),
        capture_output=True,
        timeout=60,
        env={"PYTHONPATH": root},
        cwd="/",
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_functions_of_the_project_travel_by_value() -> None:
    assert elsewhere(module_function, "f(21)") == "42"


def test_lambdas_closures_and_main_functions() -> None:
    n = 5
    assert elsewhere(lambda x: x + n, "f(1)") == "6"
    assert elsewhere(made("import math\ndef g(x): return math.sqrt(x)\ndef f(x): return g(x) + 1"), "f(9)") == "4.0"
    recursive = made("def f(n): return 1 if n < 2 else n * f(n - 1)")
    assert elsewhere(recursive, "f(5)") == "120"


def test_installed_functions_go_by_name() -> None:
    _, blob = payload.dump_function(math.sqrt)
    assert blob.nbytes < 200
    assert payload.goes_by_name(subprocess.run)
    assert not payload.goes_by_name(module_function)
    assert not payload.goes_by_name(lambda: 1)


def test_what_lies_in_the_project_and_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, installed = tmp_path / "own.py", tmp_path / "env" / "site-packages" / "theirs.py"
    installed.parent.mkdir(parents=True)
    for path in (own, installed):
        path.write_text("def f():\n    return 'f'\n")
        module = types.ModuleType(path.stem)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, path.stem, module)
    assert "own" in payload.project_modules  # wherever the notebook lies: also in ../src, or installed as editable
    for name in ("theirs", "nblb.payload", "json", "cloudpickle", "no.such"):
        assert name not in payload.project_modules


def test_modules_of_the_project_travel_with_the_functions_that_use_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "helper_of_test.py").write_text("K = 7\ndef h(x):\n    return K * x\nclass C:\n    v = K\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    f = made("import helper_of_test\nfrom helper_of_test import C\ndef f(x): return helper_of_test.h(x) + C().v")
    try:
        assert elsewhere(f, "f(2)") == "21"
    finally:
        sys.modules.pop("helper_of_test", None)


def test_the_hash_follows_the_content() -> None:
    values = [1]

    def f() -> int:
        return values[0]

    first, _ = payload.dump_function(f)
    assert payload.dump_function(f)[0] == first
    values[0] = 2
    assert payload.dump_function(f)[0] != first


def test_what_cannot_be_pickled_is_named() -> None:
    f = made("import threading\nlock = threading.Lock()\ndef g(): return lock\ndef f(): return g()")
    with pytest.raises(NotSerializable, match=r"function f -> global 'g' -> global 'lock' cannot be pickled"):
        payload.dump_function(f)
    generator = (n for n in range(3))
    with pytest.raises(NotSerializable, match=r"captured 'generator' cannot be pickled.*pass a list"):
        payload.dump_function(lambda: generator)


def test_source_lines_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    filename = "/tmp/ipykernel_1/123456.py"
    source = "def f(x):\n    y = x + 1\n    return y / 0\n"
    monkeypatch.setitem(linecache.cache, filename, (len(source), None, source.splitlines(keepends=True), filename))
    _, blob = payload.dump_function(made(source, filename=filename))
    monkeypatch.delitem(linecache.cache, filename)
    loaded = payload.load_function(blob)  # as in another process
    with pytest.raises(ZeroDivisionError) as caught:
        loaded(1)
    assert "    return y / 0" in payload.pack_exception(caught.value).traceback


def test_cells_are_called_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    filename = "/tmp/ipykernel_77/777.py"

    def format_code_name(name: str) -> tuple[str, str] | None:
        return ("Cell", "In[7]") if name == filename else None

    shell = types.SimpleNamespace(compile=types.SimpleNamespace(format_code_name=format_code_name))
    fake = types.ModuleType("IPython")
    fake.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", fake)
    source = "def f(x):\n    return x / 0\n"
    monkeypatch.setitem(linecache.cache, filename, (len(source), None, source.splitlines(keepends=True), filename))
    _, blob = payload.dump_function(made(source, filename=filename))
    monkeypatch.delitem(sys.modules, "IPython")
    with pytest.raises(ZeroDivisionError) as caught:
        payload.load_function(blob)(1)
    failure = payload.pack_exception(caught.value)
    assert "  Cell In[7], line 2, in f\n    return x / 0\n" in failure.traceback
    assert failure.where == "cell In[7] line 2"
    assert payload.cell_label("<ipython-input-12-abcdef>") == "Cell In[12]"


# ── fingerprints ──


def test_fingerprints_do_not_follow_places_and_comments() -> None:
    one = made("def f(x):\n    return x + 1")
    same = made("\n\n# a comment\ndef f(x):\n\n    # another\n    return x + 1", filename="/tmp/other.py")
    other = made("def f(x):\n    return x + 2")
    assert payload.fingerprint(one) == payload.fingerprint(same) != payload.fingerprint(other)
    assert payload.dump_function(one)[0] != payload.dump_function(same)[0]


def test_fingerprints_follow_what_is_captured() -> None:
    texts = ("K = 1\ndef f(): return K", "K = 2\ndef f(): return K", "K = 1\ndef f(a=3): return K")
    assert len({payload.fingerprint(made(text)) for text in texts}) == 3


def test_fingerprints_are_the_same_in_another_process() -> None:
    source = """
        class Model:
            sizes = (1, 2)
            def run(self, x):
                return x in {"one", "two", "three"} or [n for n in self.sizes]
        def helper(m, x): return m.run(x)
        def f(x, names=("a", "b")):
            def inner(y): return helper(Model(), y)
            return inner(x)
    """
    here = payload.fingerprint(made(source))
    code = (
        "import textwrap; from nblb import payload\n"
        f"namespace = {{'__name__': '__main__'}}; exec(textwrap.dedent({source!r}), namespace)\n"
        "print(payload.fingerprint(namespace['f']))"
    )
    root = str(Path(__file__).parents[2])
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": root, "PYTHONHASHSEED": seed},
        )
        assert done.stdout.strip() == here, done.stderr
