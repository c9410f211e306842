"""The static form of cards that stays in a saved notebook: HTML that is readable without styles, and plain text.

Both are made from the same descriptions (view_model.py) as the live cards, so that the three cannot disagree.
GitHub keeps elements and drops styles and scripts, so the HTML relies only on words and order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from nblb.notebook.cards.wording import LOOK, clip

BAR_CELLS = 30
LEFT = ' style="text-align:left"'  # JupyterLab right-aligns all table cells
SAVED_BYTES = 400_000  # of images in a saved picture
SAVED_OUTPUT = 4_000  # characters of output in a saved picture
TRACEBACK_LIMIT = 8_000  # characters of a traceback in a saved picture


def html(card: dict[str, Any], key: str = "") -> str:
    """The HTML of a described card; `key` marks it so that its live widget finds it."""
    mark = f"nblb-card nblb-live-{key}" if key else "nblb-card"
    return f'<div class="{mark}">{"".join(_parts(card))}</div>'


def _parts(card: dict[str, Any]) -> Iterable[str]:
    yield f"<p><b>{escape(card['title'])}</b>"
    if card.get("subtitle"):
        yield f" <code>{escape(card['subtitle'])}</code>"
    sign, word = card["look"]
    yield f" &nbsp;{sign} {escape(word)}</p>"
    if "percent" in card:
        said = escape(_progress(card))
        yield (  # empty: GitHub drops the element and keeps its content
            f'<p><progress value="{card["percent"]}" max="100" aria-label="{escape(card["title"])}"'
            f' aria-valuetext="{escape(card["text"])}"></progress> {said}</p>'
        )
    facts = [f"{sign} {number:,} {word}" for _, sign, word, number in card.get("counts", ())]
    facts += [fact for fact in card.get("facts", ()) if fact]
    if facts:
        yield f"<p>{escape(' · '.join(facts))}</p>"
    if card.get("rows"):
        cells = "".join(
            f"<tr><td{LEFT}>{escape(name)}</td><td{LEFT}>{escape(value)}</td></tr>" for name, value in card["rows"]
        )
        yield f"<table><tbody>{cells}</tbody></table>"
    if card.get("list"):
        yield _listed(card["list"])
    for line in (*filter(None, [card.get("earlier")]), *card.get("notes", ())):
        yield f"<p>{escape(line)}</p>"
    if card.get("hubs"):
        yield _table(("hub", "host", "state", "workers", "busy"), card["hubs"])
    for group in card.get("failures", ()):
        yield _failure(group)
    for picture in saved(card.get("pictures", ())):
        label = f"<figcaption>item {picture['item']}</figcaption>" if "total" in card else ""
        source = f"data:{picture['kind']};base64,{picture['data']}"
        yield f'<figure>{label}<img src="{source}" alt="{escape(picture["alt"])}"></figure>'
    if card.get("lines"):
        said = "\n".join(f"{item}: {line}" for item, _, line in card["lines"])
        note = f" ({card['lines_note']})" if card.get("lines_note") else ""
        yield f"<details><summary>output{escape(note)}</summary><pre>{escape(said)}</pre></details>"
    if card.get("output"):
        note = f" ({card['output_note']})" if card.get("output_note") else ""
        shown = escape(card["output"][-SAVED_OUTPUT:])
        yield f"<details><summary>output{escape(note)}</summary><pre>{shown}</pre></details>"


def saved(shown: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pictures that a saved notebook keeps: the latest images that fit into SAVED_BYTES together."""
    kept: list[dict[str, Any]] = []
    left = SAVED_BYTES
    for picture in reversed([*shown]):
        left -= len(picture["data"])
        if picture["kind"].startswith("image/") and left >= 0:
            kept.insert(0, picture)
    return kept


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th{LEFT}>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td{LEFT}>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _listed(rows: Iterable[Mapping[str, Any]]) -> str:
    """Jobs as a table."""
    lines = []
    for row in rows:
        shown = [f"<b>{escape(row['name'])}</b>", "&nbsp;".join(map(escape, row["look"]))]
        bar = ""
        if "percent" in row:
            bar = f'<progress value="{row["percent"]}" max="100" aria-label="{escape(row["name"])}"></progress> '
        shown += [f"{bar}{escape(row.get('text', ''))}", escape(" · ".join(row["facts"]))]
        lines.append("<tr>" + "".join(f"<td{LEFT}>{cell}</td>" for cell in shown) + "</tr>")
    head = "".join(f'<th scope="col"{LEFT}>{name}</th>' for name in ("job", "state", "progress", "from"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _progress(card: Mapping[str, Any]) -> str:
    """A bar in words: '43 %, 86 of 200 tasks'; 'failed at 43 %' does not repeat the percentage."""
    label = card.get("label", f"{card['percent']} %")
    return str(card["text"] if label in card["text"] else f"{label}, {card['text']}")


def _line(row: Mapping[str, Any]) -> str:
    said = [" ".join(row["look"]), row.get("text", ""), *row["facts"]]
    return f"{row['name']}: {', '.join(filter(None, said))}"


def _failure(group: dict[str, Any]) -> str:
    trace = escape(clip(group["traceback"], TRACEBACK_LIMIT))
    items = f"<p>{escape(group['items'])}</p>" if group.get("items") else ""
    return f"<details><summary>✗ {escape(group['title'])}</summary>{items}<pre>{trace}</pre></details>"


def text(card: dict[str, Any]) -> str:
    """The card as plain text: a head line, a bar, counts, failures."""
    lines = [f"{card['title']}: {' '.join(filter(None, card['look']))}"]
    if "percent" in card:
        full = round(card["percent"] * BAR_CELLS / 100)
        lines.append(f"[{'#' * full}{'.' * (BAR_CELLS - full)}] {_progress(card)}")
    facts = [f"{sign} {number:,} {word}" for _, sign, word, number in card.get("counts", ())]
    facts += [fact for fact in card.get("facts", ()) if fact]
    if facts:
        lines.append(" · ".join(facts))
    lines += [f"{name}: {value}" for name, value in card.get("rows", ())]
    lines += [_line(row) for row in card.get("list", ())]
    lines += [*filter(None, [card.get("earlier")]), *card.get("notes", ())]
    lines += [
        f"hub {hub[0]} on {hub[1]}: {hub[2]}, {hub[3]} worker{'s' * (hub[3] != 1)}, {hub[4]} busy"
        for hub in card.get("hubs", ())
    ]
    lines += [f"✗ {group['title']}" for group in card.get("failures", ())]
    lines += [f"{item}: {line}" for item, _, line in card.get("lines", ())]
    return "\n".join(lines)


def look(state: str) -> tuple[str, str]:
    """Sign and word of a task's state, also for states that only a newer core knows."""
    return LOOK.get(state, ("?", state.lower()))
