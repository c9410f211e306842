"""A form for parameters.json, made from the types of the parameters, and checked by their rules as one types."""

from __future__ import annotations

import json
import os
import tempfile
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import panel as pn

from nblb.errors import ParametersError
from nblb.parameters import Parameters, load

FIRST = ("LB_NAME", "WKHUB_WORKERS", "LB_DURABILITY", "MONITOR_PORT", "LB_STATE_DIR")  # what most people change
WIDE_FIELD: dict[str, Any] = {"sizing_mode": "stretch_width", "max_width": 420}  # narrower where the page is


class ParametersForm:
    """The widgets of all parameters; `problem` is the sentence about what is wrong, "" if nothing is.

    Parameters
    ----------
    path
        The file that is read at first and that `save` writes; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.widgets: dict[str, Any] = {}
        self.problem = ""
        self._defaults = load(None).as_dict()
        self._kinds = {name: _bare(hint) for name, hint in get_type_hints(Parameters, include_extras=True).items()}
        known, self.problem = self._read()
        for name in self._defaults:
            self.widgets[name] = self._widget(name, known[name])

    def parts(self) -> tuple[list[Any], list[Any]]:
        """Return the widgets that most people change, and the others."""
        return [self.widgets[name] for name in FIRST], [self.widgets[n] for n in self.widgets if n not in FIRST]

    def watch(self, changed: Any) -> None:
        """Call `changed()` at every key that is typed."""
        for widget in self.widgets.values():
            widget.param.watch(lambda _event: changed(), "value_input" if hasattr(widget, "value_input") else "value")

    def settings(self) -> dict[str, Any]:
        """Return what the form says, without the keys that have their defaults.

        Raises
        ------
        ParametersError
            A list or an object is not JSON.
        """
        typed = {name: self._typed(name) for name in self.widgets}
        return {name: value for name, value in typed.items() if json.dumps(value) != json.dumps(self._defaults[name])}

    def check(self) -> Parameters | None:
        """Return the checked parameters; None, with the sentence in `problem`, if something is wrong."""
        try:
            parameters = load(self.settings())
        except ParametersError as error:
            self.problem = str(error)
            return None
        self.problem = ""
        return parameters

    def save(self) -> Path:
        """Write the file, without the keys that have their defaults; it is complete at every moment.

        Raises
        ------
        ParametersError
            Something is wrong, or the file cannot be written.
        """
        if self.check() is None:
            raise ParametersError(self.problem)
        try:
            handle, rough = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(self.settings(), indent=2) + "\n")
            return Path(rough).replace(self.path)
        except OSError as error:
            raise ParametersError(f"{self.path}: cannot be written: {error.strerror or error}.") from None

    def take(self, path: Path) -> str:
        """Read another file into the form; return why that is not possible, or ""."""
        self.path = path
        known, problem = self._read()
        for name, widget in self.widgets.items():
            widget.value = self._shown(name, known[name])
        return problem

    def _read(self) -> tuple[dict[str, Any], str]:
        if not self.path.exists():
            return self._defaults, ""
        try:
            return load(self.path).as_dict(), ""
        except ParametersError as error:
            return self._defaults, str(error)

    def _widget(self, name: str, value: Any) -> Any:
        kind, margin = self._kinds[name], (2, 8)
        if get_origin(kind) is Literal:
            return pn.widgets.Select(name=name, options=list(get_args(kind)), value=value, width=200, margin=margin)
        if isinstance(self._defaults[name], (list, tuple, dict)):
            return pn.widgets.TextAreaInput(
                name=name, value=self._shown(name, value), rows=3, margin=margin, **WIDE_FIELD
            )
        return pn.widgets.TextInput(name=name, value=self._shown(name, value), width=200, margin=margin)

    def _shown(self, name: str, value: Any) -> Any:
        if get_origin(self._kinds[name]) is Literal or isinstance(value, str):
            return value
        return json.dumps(value)

    def _typed(self, name: str) -> Any:
        widget = self.widgets[name]
        text = getattr(widget, "value_input", None) or widget.value
        if get_origin(self._kinds[name]) is Literal or self._kinds[name] is str:
            return text
        try:
            return json.loads(text)
        except ValueError:
            if isinstance(self._defaults[name], (list, tuple, dict)):
                raise ParametersError(f"{name} is not JSON: {text[:60]!r}.") from None
            return text  # the check names what is allowed


def _bare(hint: Any) -> Any:
    """Return the type without its description."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    return hint if not isinstance(hint, types.UnionType) else object
