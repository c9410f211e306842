"""The Monitor's texts around its pages: banner, figures at the top, small print; and its styles. HTML, escaped here."""

from __future__ import annotations

import html
from pathlib import Path

from nblb.monitoring import rows
from nblb.monitoring.poller import ClusterPicture

__all__ = ["CSS", "TITLE", "banner", "note", "summary"]

TITLE = "LoadBalancer Monitor"
STALE_AFTER_S = 5.0

CSS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def banner(picture: ClusterPicture, age_s: float) -> str:
    """The banner at the top while the data is not current; empty when all is well."""
    if picture.error:
        seen = f" What is shown is {rows.duration_cell(age_s)} old." if picture.taken_at else ""
        why = html.escape(picture.error)
        return (
            f'<div class="alert" role="alert"><b>Core unreachable.</b>{seen} '
            f"This page goes on by itself as soon as the core answers. <i>{why}</i></div>"
        )
    if not picture.taken_at:
        return '<div class="alert calm" role="status">Connecting to the core…</div>'
    if age_s > STALE_AFTER_S:
        return (
            f'<div class="alert" role="alert"><b>STALE.</b> The core has not answered for {rows.duration_cell(age_s)}; '
            "what is shown is that old.</div>"
        )
    return ""


def ended(sentence: str) -> str:
    """The banner of a page whose login has ended."""
    return f'<div class="alert" role="alert"><b>Logged out.</b> {html.escape(sentence)}.</div>'


def summary(picture: ClusterPicture) -> str:
    """The figures at the top: the same on every page."""
    status = picture.status
    counts = status.get("counts") or {}
    facts = [
        ("Workers", status.get("workers")),
        ("Busy", status.get("busy")),
        ("Hubs", status.get("hubs")),
        ("Queued", status.get("queued")),
        ("Running", status.get("running")),
        ("Done", counts.get("DONE")),
        ("Failed", counts.get("FAILED")),
    ]
    boxes = "".join(f"<div><dt>{name}</dt><dd>{rows.count(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{boxes}</dl>'


def note(picture: ClusterPicture, age_s: float, viewer: str) -> str:
    """The line of small print: the cluster, the age of the data, and who looks at it."""
    status = picture.status
    name = html.escape(str(status.get("name") or "?"))
    host = html.escape(str(status.get("host") or "?"))
    kept = html.escape(
        {"none": "in memory only"}.get(str(status.get("durability")), f"journal: {status.get('durability')}")
    )
    age = f"{age_s:.0f} s" if age_s != float("inf") else "never"
    said = (
        f"cluster <b>{name}</b> on {host} · up {rows.duration_cell(status.get('uptime_s'))} · {kept} · "
        if status
        else ""
    )
    return f'<p class="line">{said}data {age} old · {html.escape(viewer)}</p>'
