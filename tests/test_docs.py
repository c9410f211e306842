"""The documents are up to date: every setting, magic, command and name is listed, and the examples run."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nblb
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of these tests find nblb without it being installed, too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def block(containing: str) -> str:
    (found,) = [text for text in blocks("python") if containing in text]
    return found


def test_every_parameter_has_a_heading_and_its_default() -> None:
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    defaults = json.loads((ROOT / "nblb" / "parameters.json").read_text())
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(defaults)
    for key, default in defaults.items():
        section = text.split(f"### {key}\n", 1)[1].split("\n#", 1)[0]
        assert f"Default `{json.dumps(default)}`" in section, key


def test_every_key_of_a_group_is_explained() -> None:
    from nblb.parameters import WorkerGroup

    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    for key in WorkerGroup.__struct_fields__:
        assert f"`{key}`" in text


def test_every_public_name_is_in_the_api_reference() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\.\. auto\w+:: nblb\.(\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(set(nblb.__all__) - {"__version__"})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_api_reference_builds_without_a_broken_reference(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "docs", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "nblb.TaskFuture" in (tmp_path / "api.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", blocks("json") + blocks("json", (ROOT / "docs" / "parameters.md").read_text()))
def test_examples_of_parameters_are_valid(text: str) -> None:
    from nblb.parameters import load

    load(json.loads(text))


def test_every_magic_is_documented() -> None:
    from nblb.notebook.magics.magics import LbMagics

    names = [*LbMagics.magics["line"], *LbMagics.magics["cell"]]
    assert names
    for name in names:
        assert f"%{name}" in README


def test_every_command_is_documented() -> None:
    said = subprocess.run([sys.executable, "-m", "nblb", "--help"], capture_output=True, text=True)
    commands = re.findall(r"^    (\w+) ", said.stdout, re.MULTILINE)
    assert "start" in commands
    for command in commands:
        assert f"`{command}`" in README or f"nblb {command}`" in README, command


def test_every_error_is_in_the_tree() -> None:
    """The docstring of errors.py is the tree of errors."""
    from nblb import errors

    for name in errors.__all__:
        assert re.search(rf"\b{name}\b", errors.__doc__ or "")


@pytest.mark.parametrize("text", blocks("python"), ids=lambda text: text.strip().splitlines()[0][:30])
def test_examples_are_python_and_use_names_that_exist(text: str) -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    tree = ast.parse(TransformerManager().transform_cell(text))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lb":
            assert hasattr(nblb, node.attr), f"lb.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "nblb":
            assert all(hasattr(nblb, name.name) for name in node.names)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_readme_names_the_two_commands() -> None:
    (commands,) = [text for text in blocks("sh") if "./run" in text]
    assert [line.split()[0] for line in commands.splitlines()] == ["./run", "./test"]
    for command in ("run", "test", ".ci/run", ".ci/environment.sh"):
        subprocess.run(["bash", "-n", str(ROOT / command)], check=True)
    assert "./test" in (ROOT / ".ci" / "run").read_text()


def test_the_first_example_runs(parameters_file: str, tmp_path: Path) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from nblb import launch

    text = block("%lb_start").replace("%lb_start", f"%lb_start {parameters_file} --no-monitor").replace("1000", "40")
    script = tmp_path / "example.ipy"
    script.write_text(f"{text}\nassert len(job) == 40 and total > 0, total\nprint('it ran')\n")
    assert InteractiveShell  # the example is what a user of IPython types
    try:
        command = [sys.executable, "-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=NoColor", str(script)]
        said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        assert "it ran" in said.stdout, said.stdout + said.stderr
    finally:
        launch.stop(parameters_file)


def test_the_python_example_runs(settings: dict[str, Any], tmp_path: Path) -> None:
    from nblb import launch

    text = block("with lb.start(").replace("lb.start(workers=2)", f"lb.start({settings!r}, workers=2, monitor=False)")
    script = tmp_path / "example.py"
    script.write_text(f"{text}\n    assert f.result() == 9 and g.result() == 81 and job[17].result() == 289\n")
    try:
        said = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )
        assert said.returncode == 0, said.stdout + said.stderr
    finally:
        launch.stop(settings)


def test_the_hello_example_runs_as_written(parameters_file: str, tmp_path: Path) -> None:
    """Three programs of three people, in the order of the README."""
    from nblb import launch

    folder = Path(parameters_file).parent

    def start(name: str, text: str) -> subprocess.Popen[str]:
        (tmp_path / name).write_text(text)
        output = (tmp_path / f"{name}.out").open("w")
        with output:
            return subprocess.Popen(
                [sys.executable, str(tmp_path / name)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    hub = None
    try:
        core = start("core.py", block("startAll("))
        hub = start("hub.py", block("helloFunction"))
        wait_until(lambda: _answers(parameters_file), 30, "a core that answers")
        client = start("seed_client.py", _until_done(block("CL.sendTask")))
        assert client.wait(60) == 0, (tmp_path / "seed_client.py.out").read_text()
        assert (tmp_path / "seed_client.py.out").read_text().strip().endswith("100 Hello John Doe !")
        assert core.poll() in {None, 0}
    finally:
        launch.stop(parameters_file)
        for process in (hub, core):
            if process is not None:
                process.terminate()
                process.wait(20)


def _answers(parameters_file: str) -> bool:
    from nblb import launch

    launch.connect(parameters_file).close()
    return True


def _until_done(text: str) -> str:
    """The example, asking again until the task is done, as its reader would."""
    wait = "import time\nend = time.monotonic() + 40\n"
    wait += "while CL.getTask(taskid).get('progress') != 100 and time.monotonic() < end:\n    time.sleep(0.02)\n"
    before, after = text.split("taskinfo =", 1)
    return f"{before}{wait}taskinfo ={after}\nprint(progress, result)\n"
