"""A real JupyterLab in a real browser: starts both, opens and runs a notebook, reads its outputs.

Lab gets folders of its own for everything it writes, and kernels get runtime and state folders of their own, so
that a test meets neither the user's settings nor another test's cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

from tests.browser import chromium

START_S = 150.0  # on a machine of which others take the most
# ipykernel 6 has no thread that takes messages while a cell computes: a press waits for the cell's end there.
PRESSED_WHILE_COMPUTING_S = 2.0 if int(version("ipykernel").partition(".")[0]) >= 7 else 20.0
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


def missing() -> str:
    """Why a browser test cannot run here, "" if it can."""
    try:
        import jupyterlab  # noqa: F401
    except ImportError:
        return "jupyterlab is not installed"
    return chromium.missing()


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


@dataclass
class Lab:
    """A JupyterLab that answers."""

    url: str
    token: str
    root: Path
    runtime: Path  # where its kernels' clusters have their sockets
    app: str = "jupyterlab"  # or "notebook": Notebook 7


@contextlib.contextmanager
def lab(
    root: Path, runtime: Path, theme: str = LIGHT, app: str = "jupyterlab", prefix: str = "", **environment: str
) -> Iterator[Lab]:
    """Starts JupyterLab (or Notebook 7) on the notebooks in `root`, under a prefix; ends it, kernels included."""
    work = root / ".jupyter"
    environment = {**os.environ, **_folders(work), "NBLB_RUNTIME_DIR": str(runtime), **environment}
    _settings(work / "settings", theme)
    _without_build(work / "config")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    log = work / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            _command(app, port, token, root, prefix),
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=root,
            env=environment,
            start_new_session=True,
        )
    here = Lab(f"http://127.0.0.1:{port}{prefix}", token, root, runtime, app)
    try:
        _wait_up(here, process, log)
        yield here
    finally:
        process.send_signal(signal.SIGTERM)  # Lab ends its kernels
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _folders(work: Path) -> dict[str, str]:
    names = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    return {name: str(work / folder) for name, folder in names.items()}


def _settings(folder: Path, theme: str) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "notebook-extension/tracker": {"autoStartDefaultKernel": True, "windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "apputils-extension/themes": {"theme": theme, "adaptive-theme": False},
    }
    for name, value in wanted.items():
        file = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))


def _without_build(folder: Path) -> None:
    """Else each page has the server compare its build with its extensions, which takes it a second and a Node."""
    config = folder / "labconfig" / "page_config.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"buildAvailable": False, "buildCheck": False}))


def _command(app: str, port: int, token: str, root: Path, prefix: str) -> list[str]:
    return [
        *(sys.executable, "-m", app, f"--ServerApp.base_url={prefix}/"),
        *("--no-browser", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"),
        *("--allow-root", "--LabApp.news_url=None", "--LabApp.extension_manager=readonly"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        *("--ServerApp.terminals_enabled=False", "--expose-app-in-browser"),
    ]


def _wait_up(here: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab ended while starting:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{here.url}/api/status?token={here.token}", timeout=20).read()
            return
        time.sleep(0.05)
    raise RuntimeError(f"JupyterLab did not answer in {START_S:.0f} s:\n{log.read_text()[-3000:]}")


class Page:
    """One notebook in one browser page, in Lab's single-document mode."""

    def __init__(self, browser_page: Any, here: Lab, notebook: str) -> None:
        self.page = browser_page
        self.here = here
        self.notebook = notebook
        self.foreign: list[str] = []  # requests that leave this machine
        self.errors: list[str] = []
        browser_page.on("request", self._asked)
        browser_page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.here.url, self.here.url.replace("http", "ws"), "blob:", "data:")):
            self.foreign.append(request.url)

    def open(self) -> None:
        lab = self.here.app == "jupyterlab"
        path = f"doc/workspaces/t/tree/{self.notebook}" if lab else f"notebooks/{self.notebook}"
        self.page.goto(f"{self.here.url}/{path}?token={self.here.token}{'&reset' if lab else ''}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.wait_kernel()

    def wait_kernel(self) -> None:
        """The indicator reads idle before there is a kernel, so the session itself is asked."""
        self._wait("sc && sc.isReady && k && k.connectionStatus === 'connected' && k.status === 'idle'")

    def wait_connected(self) -> None:
        """Like wait_kernel, for a kernel that may be busy."""
        self._wait("k && k.connectionStatus === 'connected'")

    def wait_settled(self) -> None:
        """A server that is to end a kernel which it is only starting takes half a minute over it."""
        self.page.evaluate(
            """() => {
                const context = window.jupyterapp?.shell?.currentWidget?.sessionContext;
                const started = (async () => { await context?.ready; await context?.session?.kernel?.info })();
                return Promise.race([started.then(() => {}), new Promise((late) => setTimeout(late, 20_000))]);
            }"""
        )

    def _wait(self, condition: str) -> None:
        script = f"""() => {{
            const w = window.jupyterapp?.shell?.currentWidget, sc = w?.sessionContext, k = sc?.session?.kernel;
            return !!({condition});
        }}"""
        self.page.wait_for_function(script, timeout=60_000)

    def run_all(self) -> None:
        """Begins to run every cell and returns; the command's own promise would wait for all of them."""
        self.command("runmenu:run-all")

    def command(self, name: str) -> None:
        self.page.evaluate("(name) => { void window.jupyterapp.commands.execute(name) }", name)

    def look(self, theme: str, width: int | None = None) -> None:
        """JupyterLab's theme, what the system says of light and dark, and a width of the page."""
        self.page.emulate_media(color_scheme="dark" if theme == DARK else "light")
        self.page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        there = (
            "(theme) => document.body.dataset.jpThemeName === theme && !document.querySelector('#jupyterlab-splash')"
        )
        self.page.wait_for_function(there, arg=theme)  # the splash is over everything
        if width is not None:
            self.page.set_viewport_size({"width": width, "height": self.page.viewport_size["height"]})

    def save(self) -> dict[str, Any]:
        """Saves the notebook and returns what is in the file."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
        saved: dict[str, Any] = json.loads((self.here.root / self.notebook).read_text())
        return saved

    def kill_kernel(self) -> None:
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def reload(self) -> None:
        self.page.reload()
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)

    def card(self, name: str) -> Any:
        """The card of this name; several if it is shown in several cells."""
        return self.page.get_by_role("group", name=name)

    def outputs(self) -> list[str]:
        texts: list[str] = self.page.locator(".jp-OutputArea-output").all_inner_texts()
        return texts


@contextlib.contextmanager
def browser_page(here: Lab, notebook: str, size: tuple[int, int] = (1280, 1000), dark: bool = False) -> Iterator[Page]:
    """A page on `notebook`; in the end it is closed, and its kernel with it."""
    try:
        with chromium.page(size, dark) as tab:
            page = Page(tab, here, notebook)
            try:
                yield page
                page.wait_settled()
            except BaseException:
                _last_picture(page)
                raise
    finally:
        _end_kernels(here)


def _end_kernels(here: Lab) -> None:
    """Or a job that nobody looks at any more would go on, and cost what the next test needs."""
    with contextlib.suppress(urllib.error.HTTPError):  # one has ended by itself
        for kernel in json.loads(_ask(here, "api/kernels")):
            _ask(here, f"api/kernels/{kernel['id']}", "DELETE")


def _ask(here: Lab, path: str, method: str = "GET") -> bytes:
    request = urllib.request.Request(f"{here.url}/{path}", method=method)
    request.add_header("Authorization", f"token {here.token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: bytes = answer.read()
    return found


def _last_picture(page: Page) -> None:
    """What the page showed when a test failed, beside the other pictures."""
    folder = os.environ.get("NBLB_ARTIFACTS")
    if folder:
        with contextlib.suppress(Exception):  # the failure itself is what is told
            page.page.screenshot(path=Path(folder) / f"failed-{Path(page.notebook).stem}.png", timeout=60_000)
