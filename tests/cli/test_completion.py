"""nblb completion: code that shells accept, with every command and its options."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nblb import cli


def code_for(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


def test_bash_completes_commands_options_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "completion.sh").write_text(code_for("bash", capsys))
    (tmp_path / "lab.json").touch()

    def completed(*words: str) -> list[str]:
        script = (
            "source completion.sh; COMP_WORDS=(nblb {}); COMP_CWORD={}; COMP_LINE=x; COMP_POINT=1; _shtab_nblb {};"
            ' printf "%s\\n" "${{COMPREPLY[@]}}"'
        ).format(" ".join(f"'{word}'" for word in words), len(words), f"nblb '{words[-1]}'")
        environment = {**os.environ, "LC_ALL": "C"}
        run = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=20, env=environment
        )
        return [line.strip() for line in run.stdout.splitlines() if line.strip()]

    assert completed("res") == ["result"]
    assert "--follow" in completed("logs", "--fo")
    assert "lab.json" in completed("status", "--parameters", "la")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_the_other_shells(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = code_for(shell, capsys)
    assert all(word in code for word in ("result", "forget", "follow"))
    if shutil.which(shell):
        (tmp_path / "code").write_text(code)
        subprocess.run([shell, "-n", str(tmp_path / "code")], check=True, timeout=20)
