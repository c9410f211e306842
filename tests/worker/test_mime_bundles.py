"""A task's objects as mime bundles, whatever their methods do."""

from __future__ import annotations

import base64
import json
from typing import Any

from nblb.worker.mime_bundles import MAX_BYTES, MAX_TEXT, bundle_of, clear, encode


class Table:
    def _repr_html_(self) -> str:
        return "<table>"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return b"png", {"width": 3}

    def _repr_latex_(self) -> None:
        return None

    def _repr_svg_(self) -> str:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        return "a table"


def test_each_picture_that_an_object_has() -> None:
    data, metadata = bundle_of(Table())
    assert data == {"text/html": "<table>", "image/png": b"png", "text/plain": "a table"}
    assert metadata == {"image/png": {"width": 3}}


def test_its_own_bundle_comes_first_and_a_class_is_no_picture() -> None:
    class Own:
        def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, str]]:
            return {"text/html": "own"}, {"k": "v"}

        def _repr_html_(self) -> str:
            return "other"

    assert bundle_of(Own(), plain=False)[0]["text/html"] == "own"
    assert bundle_of(Own)[0].keys() == {"text/plain"}
    assert bundle_of(3, plain=False) == ({}, {})


def test_a_repr_that_fails_or_never_ends() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert "Bad, whose repr fails" in bundle_of(Bad())[0]["text/plain"]
    text = bundle_of("x" * (2 * MAX_TEXT))[0]["text/plain"]
    assert len(text) == MAX_TEXT + 1
    assert text.endswith("…")


def test_bytes_travel_as_base64_and_an_id_says_what_it_updates() -> None:
    shown = json.loads(encode({"image/png": b"png"}, {"image/png": {"width": 3}}, "d1", update=True))
    assert base64.b64decode(shown["data"]["image/png"]) == b"png"
    assert (shown["id"], shown["update"], shown["metadata"]) == ("d1", True, {"image/png": {"width": 3}})


def test_what_is_too_large_is_left_out_and_that_is_said() -> None:
    data = {"text/html": "x" * MAX_BYTES, "text/plain": "short", "application/json": {"a": 1}}
    shown = json.loads(encode(data, {"text/html": {"k": 1}}))
    assert shown["data"]["text/plain"] == "short\n… left out: text/html of 1,048,576 bytes …"
    assert shown["data"]["application/json"] == {"a": 1}
    assert shown["metadata"] == {}


def test_clearing() -> None:
    assert json.loads(clear(wait=True)) == {"clear": True, "wait": True}
