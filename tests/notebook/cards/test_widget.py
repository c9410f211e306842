from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nblb.notebook.cards import widget

STATIC = Path(widget.__file__).parents[1] / "static"


@pytest.mark.parametrize(
    "kind", [widget.JobWidget, widget.TaskWidget, widget.ClusterWidget, widget.ListWidget, widget.StopWidget]
)
def test_what_every_card_sends_once_is_small_and_leaves_the_machine_for_nothing(kind: type) -> None:
    script, style = str(kind._esm), str(kind._css)  # type: ignore[attr-defined]
    assert len(script) + len(style) < 40_000  # a page gets it once for each kind of card
    for text in (script, style):
        assert "http://" not in text
        assert "https://" not in text
    assert script.count("export default") == 1


def node() -> str:
    """Node.js: of the system, or the one that playwright brings along."""
    if found := shutil.which("node"):
        return found
    driver = pytest.importorskip("playwright._impl._driver", reason="no Node.js to check the scripts' grammar")
    return str(driver.compute_driver_executable()[0])


@pytest.mark.parametrize("name", ["job.js", "task.js", "cluster.js", "list.js", "stop.js"])
def test_scripts_are_well_formed(name: str, tmp_path: Path) -> None:
    script = tmp_path / "card.mjs"
    script.write_text(
        "".join((STATIC / part).read_text() for part in ("live.js", "said.js", "strip.js", "earlier.js", name))
    )
    subprocess.run([node(), "--check", str(script)], check=True, timeout=60)


def test_front_end_files_are_short() -> None:
    for file in STATIC.iterdir():
        assert len(file.read_text().splitlines()) <= 150, file


# The marks by which front-ends tell a page of their theme; nothing else of a front-end's own may be relied on.
THEME_MARKS = ("[data-jp-theme-light=", ".vscode-dark", ".vscode-high-contrast", 'html[theme="dark"]')
FOREIGN = (".jp-", ".lm-", "jupyterapp", "model.comm", "widget_manager", "requirejs", "--colab")
COLOUR = re.compile(r"--nblb-([A-Z]+): #([0-9a-f]{3,6});")
GROUNDS = {"light": ("#ffffff", "#f5f5f5"), "dark": ("#111111", "#1e1e1e", "#212121")}  # of JupyterLab and VS Code


@pytest.mark.parametrize("name", ["card.css", "list.css"])
def test_styles_need_no_front_end(name: str) -> None:
    style = (STATIC / name).read_text()
    borrowed = re.findall(r"var\((--(?:jp|vscode)-[\w-]+)(\s*,)?", style)
    assert all(fallback for _, fallback in borrowed), borrowed
    for mark in THEME_MARKS:
        style = style.replace(mark, "")
    assert not [word for word in FOREIGN if word in style]


def test_scripts_need_no_front_end() -> None:
    for file in STATIC.glob("*.js"):
        assert not [word for word in FOREIGN if word in file.read_text()], file


def test_each_state_stands_out_from_every_ground() -> None:
    before, after = (STATIC / "card.css").read_text().split("color-scheme: dark;")
    for theme, style in (("light", before), ("dark", after)):
        colours = dict(COLOUR.findall(style))
        assert {"DONE", "RUNNING", "FAILED", "LOST", "CANCELLED", "CANCELLING", "ASSIGNED"} <= colours.keys()
        for state in ("DONE", "RUNNING", "FAILED", "LOST", "CANCELLED", "CANCELLING", "ASSIGNED"):
            for ground in GROUNDS[theme]:
                assert contrast(f"#{colours[state]}", ground) >= 3, (theme, state, ground)


def contrast(one: str, other: str) -> float:
    """As WCAG computes it."""
    darker, lighter = sorted((lightness(one), lightness(other)))
    return (lighter + 0.05) / (darker + 0.05)


def lightness(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
