"""Pictures of every card in every state, theme and width, to look at: python -m tests.browser.gallery FOLDER."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.browser.lab import DARK, LIGHT, Lab, Page, browser_page, lab, write_notebook
from tests.notebook.scenes import SCENES

ROOT = Path(__file__).parents[2]
SETUP = (
    "from tests.notebook import scenes\nfrom nblb.notebook import display_hooks\ndisplay_hooks.install(get_ipython())"
)
LOOKS = [(LIGHT, 1280), (DARK, 1280), (LIGHT, 600), (DARK, 600), (LIGHT, 320)]


def open_gallery(page: Page, scenes: list[str], theme: str) -> None:
    """The notebook `gallery.ipynb` with a cell for each scene, run, once every card is alive."""
    page.open()
    page.look(theme)
    page.run_all()
    ready = f"() => document.querySelectorAll('.nblb-root').length >= {len(scenes)}"
    page.page.wait_for_function(ready, timeout=90_000)


def write_gallery(here: Lab, scenes: list[str]) -> None:
    write_notebook(here.root / "gallery.ipynb", SETUP, *(f"scenes.show({name!r})" for name in scenes))


def main(folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scenes = only or list(SCENES)
    with tempfile.TemporaryDirectory(prefix="nblb") as work:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        with lab(Path(work), Path(work) / "run", PYTHONPATH=path) as here:
            write_gallery(here, scenes)
            for theme, width in LOOKS:
                with browser_page(here, "gallery.ipynb", (width, 1000), dark=theme == DARK) as page:
                    open_gallery(page, scenes, theme)
                    page.page.wait_for_timeout(1500)
                    name = f"{theme.rsplit(maxsplit=1)[-1].lower()}-{width}"
                    for scene, card in zip(scenes, page.page.locator(".nblb-root").all(), strict=False):
                        card.screenshot(path=folder / f"{scene}-{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
