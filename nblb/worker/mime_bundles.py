"""Mime bundles of a task's objects, made in the worker without IPython and without a kernel.

`bundle_of` calls an object's display methods, by IPython's names for them; `encode` makes the text of a
TaskPrinted(stream="display") or of TaskEmitted.bundle:

    {"data": {"text/html": …, "image/png": base64, …}, "metadata": {…}, "id": display id or "", "update": bool}
    {"clear": true, "wait": bool}                                    the effect of clear_output()
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 1024 * 1024  # per bundle
MAX_TEXT = 64 * 1024  # of the plain text in a bundle

_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
}


def bundle_of(thing: Any, plain: bool = True, tight: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (data, metadata) of an object; data includes its repr if `plain`, else it may be empty.

    `tight` cuts a figure's margins as a notebook does, which draws it twice and gives each frame a different size.
    """
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if not isinstance(thing, type):
        _from_bundle(thing, data, metadata)
        for name, mime in _METHODS.items():
            if mime not in data and (found := _ask(thing, name)) is not None:
                value, more = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
                if value is not None:
                    data[mime] = value
                    if more:
                        metadata[mime] = more
        if is_figure(thing) and "image/png" not in data:
            data["image/png"] = _png(thing, tight)
    if (plain or data) and "text/plain" not in data:
        data["text/plain"] = _text(thing)
    return data, metadata


def _from_bundle(thing: Any, data: dict[str, Any], metadata: dict[str, Any]) -> None:
    found = _ask(thing, "_repr_mimebundle_", include=None, exclude=None)
    if isinstance(found, tuple) and len(found) == 2:
        found, more = found
        if isinstance(more, Mapping):
            metadata.update(more)
    if isinstance(found, Mapping):
        data.update(found)


def _ask(thing: Any, method: str, **arguments: Any) -> Any:
    """Return the result of a display method; None if it does not exist or fails."""
    if getattr(type(thing), method, None) is None:
        return None
    try:
        return getattr(thing, method)(**arguments)
    except Exception:
        return None


def is_figure(thing: Any) -> bool:
    """Return whether this is a matplotlib figure, which has no display methods of its own."""
    figure = sys.modules.get("matplotlib.figure")
    return figure is not None and isinstance(thing, figure.Figure)


def _png(figure: Any, tight: bool) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight" if tight else None)
    return file.getvalue()


def _text(thing: Any) -> str:
    try:
        text = repr(thing)
    except Exception as error:
        text = f"<{type(thing).__name__}, whose repr fails: {error!r}>"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def encode(data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str = "", update: bool = False) -> str:
    """Return the JSON of a bundle within MAX_BYTES; formats that are too large are left out and named."""
    kept: dict[str, Any] = {}
    size = 0
    omitted: list[str] = []
    for mime, value in sorted(data.items(), key=lambda pair: pair[0] != "text/plain"):
        value = base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else value
        length = len(value) if isinstance(value, str) else len(_json(value))
        if size + length > MAX_BYTES:
            omitted.append(f"{mime} of {length:,} bytes")
            continue
        size += length
        kept[mime] = value
    if omitted:
        kept["text/plain"] = f"{kept.get('text/plain', '')}\n… left out: {', '.join(omitted)} …".lstrip()
    shown: dict[str, Any] = {
        "data": kept,
        "metadata": {k: v for k, v in metadata.items() if k not in data or k in kept},
    }
    if display_id:
        shown.update(id=display_id, update=update)
    return _json(shown)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


def clear(wait: bool) -> str:
    """Return the JSON that clears the displays: at once, or when the next one comes (`wait`)."""
    return _json({"clear": True, "wait": wait})
