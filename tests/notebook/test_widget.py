from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nblb.notebook import widget

STATIC = Path(widget.__file__).parent / "static"


@pytest.mark.parametrize(
    "kind", [widget.JobWidget, widget.TaskWidget, widget.ClusterWidget, widget.ListWidget, widget.StopWidget]
)
def test_what_every_card_sends_once_is_small_and_leaves_the_machine_for_nothing(kind: type) -> None:
    script, style = str(kind._esm), str(kind._css)  # type: ignore[attr-defined]
    assert len(script) + len(style) < 36_000  # a page gets it once for each kind of card
    for text in (script, style):
        assert "http://" not in text
        assert "https://" not in text
    assert script.count("export default") == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to check the scripts' grammar")
@pytest.mark.parametrize("name", ["job.js", "task.js", "cluster.js", "list.js", "stop.js"])
def test_scripts_are_well_formed(name: str, tmp_path: Path) -> None:
    script = tmp_path / "card.mjs"
    script.write_text(
        "".join((STATIC / part).read_text() for part in ("live.js", "said.js", "strip.js", "earlier.js", name))
    )
    subprocess.run(["node", "--check", str(script)], check=True, timeout=60)


def test_front_end_files_are_short() -> None:
    for file in STATIC.iterdir():
        assert len(file.read_text().splitlines()) <= 150, file
