"""The magics in a real JupyterLab: Tab completion, the debugger's prompt, a log that is followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.browser.lab import Lab, Page, browser_page, write_notebook
from tests.waiting import wait_until

START = "%load_ext nblb\n%lb_start parameters.json --no-monitor\nimport nblb as lb"
FAILED = """@lb.task
def halve(numbers, by):
    half = len(numbers) / by
    return half
bad = halve.submit([1, 2, 3], 0)
sweep = halve.map([[1], [2]], [1, 1], job="a sweep")
print(bad.exception().task_id, sweep.wait())"""


def write(page: Page, text: str) -> None:
    """Into the active cell, with the cursor at its end."""
    page.page.evaluate(
        """(text) => { const cell = window.jupyterapp.shell.currentWidget.content.activeCell;
        cell.model.sharedModel.setSource(text); cell.editor.focus();
        cell.editor.setCursorPosition(cell.editor.getPositionAt(text.length)); }""",
        text,
    )


def tab(page: Page, text: str) -> list[str]:
    """What JupyterLab offers after this; where it is one thing alone, the completed line."""
    write(page, text)
    page.page.keyboard.press("Tab")
    items = page.page.locator(".jp-Completer:visible .jp-Completer-item")

    def offered() -> list[str]:
        line = page.page.evaluate(
            "window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.getSource()"
        )
        return [line] if line != text else items.all_inner_texts()

    found: list[str] = wait_until(offered, 60, f"Tab after {text!r}")
    page.page.keyboard.press("Escape")
    page.page.locator(".jp-Completer:visible").wait_for(state="detached")
    return [" ".join(one.split()) for one in found]


def test_tab_offers_options_and_names(here: Lab, stage: dict[str, Any], artifacts: Path) -> None:
    write_notebook(here.root / "tab.ipynb", START, FAILED, "")
    (here.root / "lab.json").write_text("{}")
    with browser_page(here, "tab.ipynb") as page:
        page.open()
        page.run_all()
        shown = page.page.locator(".jp-OutputArea-output").get_by_text(" True")
        shown.wait_for(timeout=60_000)
        failed = shown.inner_text().split()[0]
        page.page.locator(".jp-CodeCell .cm-content").last.click()
        options = " ".join(tab(page, "%lb_start --"))
        for option in ("--workers", "--name", "--no-monitor", "--help"):
            assert option in options
        assert "lab.json" in " ".join(tab(page, "%lb_start lab"))
        assert "--bg" in " ".join(tab(page, "%%lb --b"))
        assert "--host" in " ".join(tab(page, "%lb_hub --h"))
        tasks = " ".join(tab(page, "%lb_debug "))
        assert "bad" in tasks
        assert failed in tasks
        logs = " ".join(tab(page, "%lb_logs "))
        assert "core" in logs
        assert "hub" in logs
        assert "a sweep" in " ".join(tab(page, "%lb_attach a"))
        write(page, "%lb_debug --")
        page.page.keyboard.press("Tab")
        page.page.locator(".jp-Completer:visible").wait_for()
        page.page.screenshot(path=artifacts / "tab.png")
        page.page.keyboard.press("Escape")
        write(page, "%lb_attach a sweep")
        page.command("notebook:run-cell")
        page.card("a sweep").get_by_text("2 of 2 tasks").or_(
            page.card("a sweep").get_by_text("✓ 2 done")
        ).first.wait_for()
        assert page.errors == []


def answer(page: Page, text: str) -> None:
    """To the debugger. A slow page shows a prompt for a moment after it was answered: each is answered once."""
    prompt = page.page.locator(".jp-Stdin-input:not([data-answered])").last
    prompt.fill(text)
    prompt.evaluate("prompt => { prompt.dataset.answered = 'yes' }")
    page.page.keyboard.press("Enter")  # `fill` has put the focus there
    page.page.get_by_text(f"ipdb> {text}").last.wait_for(timeout=60_000)  # it is taken


def test_the_debugger_opens_on_the_tasks_own_call_and_on_what_was_kept_of_it(
    here: Lab, stage: dict[str, Any], artifacts: Path
) -> None:
    write_notebook(here.root / "debug.ipynb", START, FAILED, "%lb_debug bad", "%lb_debug bad --post-mortem", "1 + 41")
    with browser_page(here, "debug.ipynb", size=(1280, 1600)) as page:
        page.open()
        page.run_all()
        answer(page, "p ('by is', by)")
        page.page.get_by_text("('by is', 0)").wait_for(timeout=60_000)
        page.page.locator(".jp-OutputArea-output").get_by_text("half = len(numbers) / by").first.wait_for()
        page.page.screenshot(path=artifacts / "debugger.png")
        answer(page, "q")
        answer(page, "p ('kept', numbers)")
        page.page.get_by_text("('kept', [1, 2, 3])").wait_for(timeout=60_000)
        page.page.screenshot(path=artifacts / "post-mortem.png")
        answer(page, "q")
        page.page.get_by_text("42", exact=True).wait_for(timeout=60_000)


TALK = """@lb.task
def count():
    import itertools, time
    for number in itertools.count():
        print("number", number)
        time.sleep(0.05)
f = count.submit()"""


def test_a_log_is_followed_until_the_stop_button(here: Lab, stage: dict[str, Any]) -> None:
    write_notebook(here.root / "follow.ipynb", START, TALK, "%lb_logs f -f", "print(f.state); f.cancel()")
    with browser_page(here, "follow.ipynb") as page:
        page.open()
        page.run_all()
        output = page.page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea-output")
        output.get_by_text("number 30").wait_for(timeout=60_000)
        before = output.inner_text()
        wait_until(lambda: len(output.inner_text()) > len(before), 60, "more lines")
        page.command("notebook:interrupt-kernel")
        page.page.wait_for_function("() => document.querySelectorAll('.jp-InputPrompt')[2].innerText.includes('[3]')")
        assert "KeyboardInterrupt" not in output.inner_text()
        assert "Traceback" not in output.inner_text()
        page.page.locator(".jp-CodeCell").nth(3).locator(".cm-content").click()
        page.command("notebook:run-cell")  # the stop button has taken those that waited behind it off the queue
        page.page.get_by_text("RUNNING").wait_for(timeout=60_000)
