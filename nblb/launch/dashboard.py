"""Starts the dashboard in a process of its own, and shows it in a cell of a notebook by an IFrame."""

from __future__ import annotations

import atexit
import contextlib
import html
import json
import os
import select
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from nblb.errors import NblbError
from nblb.system import isolated_python

START_S = 60.0
HEIGHT = 780

#: The address that this browser can reach: Jupyter's proxy if there is one, else this computer's own.
FIND = """
<script>(async () => {
  const frame = document.getElementById(%(id)s), link = document.getElementById(%(id)s + "-link");
  const told = document.getElementById("jupyter-config-data");
  const base = told ? JSON.parse(told.textContent).baseUrl : null;
  const page = new URL(%(url)s), local = ["localhost", "127.0.0.1"];
  if (local.includes(location.hostname) && local.includes(page.hostname)) page.hostname = location.hostname; // one site
  let src = page.href;
  if (base) {
    try {
      const found = await fetch(base + "server-proxy/servers-info");
      if (found.ok) src = base + "proxy/" + page.port + page.pathname + page.search;
    } catch (_error) { /* no proxy: the computer's own address */ }
  }
  const light = document.body.dataset.jpThemeLight; // JupyterLab's theme may be another than the browser's
  if (light) src += "?theme=" + (light === "false" ? "dark" : "default");
  if (frame) frame.src = src;
  if (link) link.href = src;
})();</script>"""


class Dashboard:
    """A running dashboard; a cell shows it, and it ends with the process that has started it.

    Parameters
    ----------
    link
        The address of its page on this computer, with the token that opens it.
    process
        Its process.

    Examples
    --------
    >>> lb.dashboard().url
    """

    def __init__(self, link: str, process: subprocess.Popen[str]) -> None:
        self.link = link
        self.url = link.partition("?")[0]
        self._process = process

    @property
    def running(self) -> bool:
        """True while its process lives."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the dashboard; the cluster goes on.

        Examples
        --------
        >>> lb.dashboard().stop()
        """
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)

    def __repr__(self) -> str:
        return f"<Dashboard at {self.url}{'' if self.running else ', ended'}>"

    def _repr_html_(self) -> str:
        url, link = html.escape(self.url), html.escape(self.link)
        name = f"nblb-dashboard-{os.urandom(4).hex()}"
        script = FIND % {"id": json.dumps(name), "url": json.dumps(self.link)}
        return (
            f'<p>nblb dashboard at <a id="{name}-link" href="{link}" target="_blank" rel="noopener">{url}</a>; it ends '
            "with the kernel that has started it. Run the cell again to open it again.</p>"
            f'<iframe id="{name}" title="nblb dashboard" '
            f'style="width:100%;height:{HEIGHT}px;border:1px solid #8a94a066"></iframe>{script}'
        )


_dashboards: dict[tuple[str, int], Dashboard] = {}
_lock = threading.Lock()


def dashboard(parameters: str | Path | None = None) -> Dashboard:
    """Open the control panel: edit parameters.json, start and stop the cluster, and watch it.

    It works before anything runs. In a notebook the cell shows it; elsewhere its `url` opens in a browser. A second
    call gives the one that runs.

    Parameters
    ----------
    parameters
        Path of the parameters.json in its form, which need not exist; "parameters.json" in this folder by default.

    Returns
    -------
    Dashboard
        The dashboard, with its `url` and `stop`.

    Raises
    ------
    NblbError
        It did not start; the message ends with what it wrote.

    Examples
    --------
    >>> lb.dashboard()
    """
    path = str(Path(parameters or "parameters.json").expanduser().absolute())
    with _lock:
        known = _dashboards.get((path, os.getpid()))
        if known is not None and known.running:
            return known
        started = _dashboards[path, os.getpid()] = _start(path)
        return started


def _start(path: str) -> Dashboard:
    words = ("dashboard", "--parameters", path, "--port", "0", "--end-with", str(os.getpid()))
    process = subprocess.Popen(
        isolated_python.command("nblb", words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=isolated_python.environment(),
        text=True,
        start_new_session=True,
    )
    said: list[str] = []
    until = time.monotonic() + START_S
    output = process.stdout
    assert output is not None
    while time.monotonic() < until:
        if not select.select([output], [], [], 0.5)[0]:
            continue
        line = output.readline()
        if not line:
            break
        said.append(line.rstrip())
        if line.startswith("Dashboard on "):
            threading.Thread(target=_discard, args=(output,), name="nblb-dashboard-output", daemon=True).start()
            atexit.register(_end, process)
            return Dashboard(line.removeprefix("Dashboard on ").strip(), process)
    process.kill()
    process.wait()
    raise NblbError("the dashboard did not start; it wrote:\n" + "\n".join(said[-20:]))


def _discard(output: Any) -> None:
    """Read what the process writes, so that it never waits for a reader."""
    for _line in output:
        pass


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
