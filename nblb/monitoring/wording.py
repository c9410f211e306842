"""The Monitor's texts around its tables: banner, numbers at the top, small print. HTML, escaped here."""

from __future__ import annotations

import html

from nblb.monitoring import pages
from nblb.monitoring.poller import ClusterPicture

__all__ = ["CSS", "TITLE", "banner", "note", "summary"]

TITLE = "LoadBalancer Monitor"
STALE_AFTER_S = 5.0

CSS = """
:host { --ink: var(--panel-on-background-color, inherit); --edge: color-mix(in srgb, currentColor 22%, transparent); }
h1 { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
h2 { font-size: 1.15rem; margin: .9rem 0 .3rem; }
.facts { display: flex; flex-wrap: wrap; gap: .5rem; margin: .4rem 0 0; padding: 0; }
.facts div { border: 1px solid var(--edge); border-radius: .4rem; padding: .3rem .8rem; min-width: 5.5rem; }
.facts dt { font-size: .8rem; font-weight: 400; opacity: .8; }
.facts dd { font-size: 1.3rem; font-variant-numeric: tabular-nums; margin: 0; white-space: nowrap; }
.facts .small { font-size: 1rem; line-height: 1.95rem; }
.line { font-size: .85rem; opacity: .85; margin: .5rem 0 0; }
.line a { color: inherit; }
.alert { border-left: .4rem solid #D55E00; padding: .5rem .9rem; margin: .4rem 0; border-radius: .3rem;
         background: color-mix(in srgb, #D55E00 18%, transparent); }
.calm { border-left-color: #56B4E9; background: color-mix(in srgb, #56B4E9 18%, transparent); }
"""


def banner(picture: ClusterPicture, age_s: float) -> str:
    """The banner at the top while the data is not current; empty when all is well."""
    if picture.error:
        seen = f" What is shown is {pages.duration(age_s)} old." if picture.taken_at else ""
        why = html.escape(picture.error)
        return (
            f'<div class="alert" role="alert"><b>Core unreachable.</b>{seen} '
            f"This page goes on by itself as soon as the core answers. <i>{why}</i></div>"
        )
    if not picture.taken_at:
        return '<div class="alert calm" role="status">Connecting to the core…</div>'
    if age_s > STALE_AFTER_S:
        return (
            f'<div class="alert" role="alert"><b>STALE.</b> The core has not answered for {pages.duration(age_s)}; '
            "what is shown is that old.</div>"
        )
    return ""


def summary(picture: ClusterPicture) -> str:
    status = picture.answers["status"] or {}
    counts = status.get("counts") or {}
    facts = [
        ("Workers", f"{int(status.get('workers') or 0):,}"),
        ("Busy", f"{int(status.get('busy') or 0):,}"),
        ("Hubs", f"{int(status.get('hubs') or 0):,}"),
        ("Queued", f"{int(status.get('queued') or 0):,}"),
        ("Running", f"{int(status.get('running') or 0):,}"),
        ("Done", f"{int(counts.get('DONE') or 0):,}"),
        ("Failed", f"{int(counts.get('FAILED') or 0):,}"),
    ]
    boxes = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<h1>{TITLE}</h1><dl class="facts">{boxes}</dl>'


def note(picture: ClusterPicture, age_s: float, dark: bool) -> str:
    """The line of small print: the cluster, the age of the data, and a link to the other theme."""
    status = picture.answers.get("status") or {}
    name = html.escape(str(status.get("name") or "?"))
    host = html.escape(str(status.get("host") or "?"))
    kept = html.escape(
        {"none": "in memory only"}.get(str(status.get("durability")), f"journal: {status.get('durability')}")
    )
    other = '<a href="?theme=default">light</a>' if dark else '<a href="?theme=dark">dark</a>'
    age = f"{age_s:.0f} s" if age_s != float("inf") else "never"
    said = (
        f"cluster <b>{name}</b> on {host} · up {pages.duration(status.get('uptime_s'))} · {kept} · " if status else ""
    )
    return f'<p class="line">{said}data {age} old · {other} theme</p>'
