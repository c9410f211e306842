"""The form of parameters.json: checked as one types, saved without the defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nblb.errors import ParametersError
from nblb.monitoring.parameters_form import FIRST, ParametersForm
from nblb.parameters import load


@pytest.fixture
def form(tmp_path: Path) -> ParametersForm:
    return ParametersForm(tmp_path / "parameters.json")


def type_in(form: ParametersForm, name: str, text: str) -> None:
    form.widgets[name].value_input = text


def test_every_parameter_has_a_widget_and_the_defaults_are_valid(form: ParametersForm) -> None:
    assert set(form.widgets) == set(load(None).as_dict())
    often, others = form.parts()
    assert [widget.name for widget in often] == list(FIRST)
    assert len(often) + len(others) == len(form.widgets)
    assert form.settings() == {}
    assert form.check() is not None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("LB_NAME", "a/b", 'LB_NAME is "a/b"; it must be up to 64 letters'),
        ("MONITOR_PORT", "many", 'MONITOR_PORT is "many"; it must be a port'),
        ("MONITOR_PORT", "70000", "MONITOR_PORT is 70000; it must be a port"),
        ("WKHUB_WORKERS", "[", "WKHUB_WORKERS is not JSON"),
        ("WKHUB_WORKERS", '[{"nWorkers": -1}]', "a whole number of workers"),
        ("LB_HEARTBEAT_S", "9", "must each be above the one before"),
    ],
)
def test_what_is_wrong_is_said_in_the_products_words(form: ParametersForm, name: str, text: str, words: str) -> None:
    type_in(form, name, text)
    assert form.check() is None
    assert words in form.problem
    with pytest.raises(ParametersError):
        form.save()
    assert not form.path.exists()


def test_it_saves_what_differs_from_the_defaults_and_reads_it_again(form: ParametersForm) -> None:
    type_in(form, "LB_NAME", "lab")
    type_in(form, "WKHUB_WORKERS", '[{"nWorkers": 2}]')
    form.widgets["LB_DURABILITY"].value = "full"
    assert form.save() == form.path
    kept = {"LB_NAME": "lab", "WKHUB_WORKERS": [{"nWorkers": 2}], "LB_DURABILITY": "full"}
    assert json.loads(form.path.read_text()) == kept
    again = ParametersForm(form.path)
    assert again.settings()["LB_NAME"] == "lab"
    assert again.check() == load(form.path).changed() or again.check() is not None
    assert list(form.path.parent.iterdir()) == [form.path]


def test_changes_are_told_at_every_key(form: ParametersForm) -> None:
    told: list[str] = []
    form.watch(lambda: told.append("x"))
    type_in(form, "LB_NAME", "l")
    type_in(form, "LB_NAME", "la")
    form.widgets["LB_DURABILITY"].value = "none"
    assert len(told) == 3


def test_a_wrong_file_is_said_and_another_taken(form: ParametersForm, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"LB_NAMES": "x"}')
    assert "did you mean LB_NAME?" in form.take(other)
    other.write_text('{"LB_NAME": "x"}')
    assert form.take(other) == ""
    assert form.widgets["LB_NAME"].value == "x"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    form = ParametersForm(tmp_path / "no" / "parameters.json")
    with pytest.raises(ParametersError, match="cannot be written"):
        form.save()
