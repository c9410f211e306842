"""parameters.json: its keys, the errors for wrong values, and the location of the cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.errors import NblbError, ParametersError
from nblb.parameters import SHIPPED, Parameters, load
from nblb.protocol.messages import split_workers

GROUP = {"nWorkers": 4, "minP": 0, "maxP": 9, "processP": 10}
EXAMPLE = Path(__file__).parent.parent / "parameters.json"


def test_the_defaults_are_the_seeds() -> None:
    parameters = load()
    ports = (parameters.LB_WKPULLPORT, parameters.LB_HCREPPORT, parameters.LB_CLIENTPULLPORT)
    assert ports == (5699, 5999, 5799)
    assert (parameters.WKHUB_LBPORT, parameters.WKHUB_HCPORT, parameters.MONITOR_PORT) == (8300, 8301, 9000)
    assert (parameters.SOCKET_TIMEOUT, parameters.LB_QUEING_MAXPERUSER) == (500, 1000)
    assert parameters.LB_SECURITY == "on"
    assert parameters.name == "lab-5799"
    assert parameters.source == "defaults"


def test_each_key_is_an_attribute_and_has_a_default() -> None:
    shipped = json.loads(SHIPPED.read_text())
    assert set(Parameters.__struct_fields__) == {*shipped, "source", "connection"}
    assert set(load().as_dict()) == set(shipped)


def test_the_users_example_is_valid_and_has_one_worker_a_core() -> None:
    (group,) = load(EXAMPLE).groups()
    assert group.workers == len(os.sched_getaffinity(0))
    assert (group.minP, group.maxP) == (0, 1000)


def test_a_partial_file_is_merged_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "parameters.json"
    path.write_text('{"LB_CLIENTPULLPORT": 6000, "WKHUB_WORKERS": [{"nWorkers": 2, "minP": 1, "maxP": 2}]}')
    parameters = load(str(path))
    assert (parameters.LB_CLIENTPULLPORT, parameters.LB_WKPULLPORT) == (6000, 5699)
    assert parameters.source == str(path)
    assert [(g.workers, g.minP, g.maxP, g.processP) for g in parameters.groups()] == [(2, 1, 2, 0)]


def test_groups() -> None:
    parameters = load({"WKHUB_WORKERS": [GROUP, {**GROUP, "nWorkers": "auto", "engine": "dask"}]})
    first, second = parameters.groups()
    assert (first.workers, first.processP, first.engine) == (4, 10, "processes")
    assert second.workers >= 1
    assert [g.workers for g in load().groups()] == [len(os.sched_getaffinity(0))]
    assert [(g.workers, g.minP, g.maxP) for g in load().groups(3)] == [(3, 0, 1000)]
    with pytest.raises(ParametersError, match="workers is -1"):
        parameters.groups(-1)


WRONG: list[tuple[dict[Any, Any], str]] = [
    ({"LB_IPP": 1}, r'"LB_IPP" is not a key; did you mean LB_IP\?'),
    ({"lb_ip": "x"}, r"did you mean LB_IP\?"),
    ({"LB_QUEUING_MAXPERUSER": 1}, r"did you mean LB_QUEING_MAXPERUSER\?"),
    ({"source": "x"}, '"source" is not a key'),
    ({3: 3}, "3 is not a key"),
    ({"LB_IP": 3}, "LB_IP is 3; it must be an IP address"),
    ({"LB_IP": ""}, "LB_IP is"),
    ({"LB_WKPULLPORT": -1}, "LB_WKPULLPORT is -1; it must be a port"),
    ({"LB_WKPULLPORT": 65536}, "LB_WKPULLPORT is 65536"),
    ({"LB_WKPULLPORT": True}, "LB_WKPULLPORT is true"),
    ({"LB_WKPULLPORT": "5699"}, 'LB_WKPULLPORT is "5699"'),
    ({"SOCKET_TIMEOUT": 0}, "SOCKET_TIMEOUT is 0"),
    ({"SOCKET_TIMEOUT": 10**400}, "SOCKET_TIMEOUT is 1000"),
    ({"LB_QUEING_MAXPERUSER": -5}, "0 for no bound"),
    ({"LB_DURABILITY": "ful"}, 'it must be "process", "full" or "none"'),
    ({"LB_SECURITY": None}, "LB_SECURITY is null"),
    ({"LB_RESULT_TTL_S": float("inf")}, "LB_RESULT_TTL_S is Infinity"),
    ({"LB_RESULT_TTL_S": float("nan")}, "LB_RESULT_TTL_S is NaN"),
    ({"LB_NAME": "a/b"}, "LB_NAME is"),
    ({"LB_SUSPECT_S": 0.5}, "must each be above the one before"),
    ({"LB_HCREPPORT": 5799}, "LB_CLIENTPULLPORT and LB_HCREPPORT are both 5799"),
    ({"MONITOR_PORT": 8300, "MONITOR_IP": "0.0.0.0"}, "MONITOR_PORT and WKHUB_LBPORT are both 8300"),
    ({"WKHUB_WORKERS": 3}, "WKHUB_WORKERS is 3; it must be a list"),
    ({"WKHUB_WORKERS": [3]}, r"WKHUB_WORKERS\[0\] is 3; it must be an object"),
    ({"WKHUB_WORKERS": [GROUP, {}]}, r"WKHUB_WORKERS\[1\].nWorkers is missing"),
    ({"WKHUB_WORKERS": [{**GROUP, "nWorkers": -1}]}, r"WKHUB_WORKERS\[0\].nWorkers is -1"),
    ({"WKHUB_WORKERS": [{**GROUP, "nWorkers": "many"}]}, '"auto" for one per core'),
    ({"WKHUB_WORKERS": [{**GROUP, "nWorker": 1}]}, r"did you mean nWorkers\?"),
    ({"WKHUB_WORKERS": [{**GROUP, "minP": 10}]}, "minP is 10 and maxP is 9; minP must not be above maxP"),
    ({"WKHUB_WORKERS": [{**GROUP, "maxP": float("inf")}]}, "it must be a finite number"),
    ({"WKHUB_WORKERS": [{**GROUP, "processP": 40}]}, "a niceness"),
    ({"WKHUB_WORKERS": [{**GROUP, "env": {"A": 1}}]}, "environment variables"),
    ({"WKHUB_HOSTS": "lab2"}, r'parameters: WKHUB_HOSTS is "lab2"; it must be a list of computers'),
    ({"WKHUB_HOSTS": [7]}, r"WKHUB_HOSTS\[0\] is 7; it must be a name for ssh or an object like .*user@machine"),
    ({"WKHUB_HOSTS": ["-oProxyCommand=x"]}, r"WKHUB_HOSTS\[0\].host is .*; it must be a name for ssh"),
    ({"WKHUB_HOSTS": ["lab2", "a b"]}, r"WKHUB_HOSTS\[1\].host"),
    ({"WKHUB_HOSTS": [{"host": "lab2", "workers": -1}]}, r"WKHUB_HOSTS\[0\].workers is -1"),
    ({"WKHUB_HOSTS": [{"hots": "lab2"}]}, r"did you mean host\?"),
    ({"WKHUB_HOSTS": [{"workers": 2}]}, r"WKHUB_HOSTS\[0\].host is missing"),
    ({"WKHUB_WORKERS": [GROUP, {**GROUP, "options": {"a": 1}}]}, r'WKHUB_WORKERS\[1\].options is {"a": 1}, .*leave'),
]


@pytest.mark.parametrize(("settings", "said"), WRONG)
def test_one_sentence_for_each_mistake(settings: dict[Any, Any], said: str) -> None:
    with pytest.raises(ParametersError, match=said) as caught:
        load(settings)
    assert isinstance(caught.value, (NblbError, ValueError))
    assert "\n" not in str(caught.value)


def test_ports_may_be_alike_on_different_machines_and_when_any_will_do() -> None:
    assert load({"WKHUB_LBPORT": 5799, "WKHUB_IP": "10.0.0.2"}).WKHUB_LBPORT == 5799
    load({"LB_WKPULLPORT": 0, "LB_HCREPPORT": 0, "LB_CLIENTPULLPORT": 0})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must contain one JSON object"),
        ('{"LB_IP": "a",\n "LB_IP": "b"}', "LB_IP occurs twice"),
        ('{"LB_RESULT_TTL_S": NaN}', "NaN is not allowed"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"LB_IP": 1,}', "line 1 column"),
        ("\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_not_one(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ParametersError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_no_file_and_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="No such file"):
        load(tmp_path / "missing.json")
    with pytest.raises(ParametersError, match="path or a dict"):
        load(7)  # type: ignore[arg-type]


def test_changed_is_checked() -> None:
    parameters = load()
    assert parameters.changed(LB_NAME="x").name == "x"
    assert load(parameters) is parameters
    with pytest.raises(ParametersError, match="LB_NAME"):
        parameters.changed(LB_NAME=3)
    assert load(parameters.as_dict()).as_dict() == parameters.as_dict()


def test_a_state_folder_is_meant_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"LB_STATE_DIR": "state/x"}')
    assert load(path).state_dir == tmp_path / "state" / "x"
    assert load({"LB_STATE_DIR": "~/y"}).state_dir == Path.home() / "y"


def test_two_state_folders_never_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(tmp_path))
    one = load({"LB_NAME": "x", "LB_STATE_DIR": "/a"})
    other = load({"LB_NAME": "x", "LB_STATE_DIR": "/b"})
    assert one.runtime_dir != other.runtime_dir
    assert one.runtime_dir.parent == tmp_path
    assert one.connection_file == one.runtime_dir / "core.json"
    assert len(load({"LB_NAME": "n" * 64}).runtime_dir.name) < 40  # a Unix socket's path is short


def test_the_runtime_folder_follows_from_the_state_folder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBLB_RUNTIME_DIR", raising=False)
    short, long = (
        load({"LB_STATE_DIR": "/tmp/s", "LB_NAME": "n"}),
        load({"LB_STATE_DIR": "/tmp/" + "s" * 90 + "/state"}),
    )
    assert short.runtime_dir.parent == short.state_dir.parent
    assert short.runtime_dir != short.changed(LB_NAME="other").runtime_dir
    assert long.runtime_dir.parent.name == f"nblb-{os.getuid()}"
    before = [short.runtime_dir, long.runtime_dir]
    for name, value in (("XDG_RUNTIME_DIR", "/tmp"), ("TMPDIR", "/nowhere"), ("HOME", "/nowhere")):
        monkeypatch.setenv(name, value)
        assert [short.runtime_dir, long.runtime_dir] == before
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert [short.runtime_dir, long.runtime_dir] == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(load().as_dict())) | st.text(), JSON, max_size=4))
def test_whatever_is_given_only_parameters_errors_come(settings: dict[str, Any]) -> None:
    try:
        parameters = load(settings)
    except ParametersError:
        return
    assert load(parameters.as_dict()).as_dict() == parameters.as_dict()


def test_workers_changes_only_the_number_of_workers() -> None:
    low = {**GROUP, "nWorkers": 6, "env": {"A": "b"}, "memory_mb": 100, "max_tasks_per_worker": 9}
    high = {**GROUP, "nWorkers": 3, "minP": 10, "maxP": 99, "processP": 0}
    parameters = load({"WKHUB_WORKERS": [low, high]})
    for number, sizes in ((9, [6, 3]), (12, [8, 4]), (4, [3, 1]), (1, [1, 0]), (0, [0, 0]), (100, [67, 33])):
        groups = parameters.groups(number)
        assert [group.workers for group in groups] == sizes
        assert [(g.minP, g.maxP, g.processP, g.max_tasks) for g in groups] == [(0, 9, 10, 9), (10, 99, 0, 0)]
    nobody = load({"WKHUB_WORKERS": [{**GROUP, "nWorkers": 0}, {**high, "nWorkers": 0}]})
    assert [group.workers for group in nobody.groups(5)] == [5, 0]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_a_split_of_workers_is_whole_and_in_proportion(number: int, sizes: list[int]) -> None:
    split = split_workers(number, sizes)
    assert sum(split) == number
    assert len(split) == len(sizes)
    if sum(sizes):
        assert all(abs(part - number * size / sum(sizes)) < 1 for part, size in zip(split, sizes, strict=True))


def test_computers_that_are_reached_by_ssh() -> None:
    both = load({"WKHUB_HOSTS": ["anna@lab2", {"host": "lab3", "workers": 8, "python": "/opt/python"}]})
    assert [(entry.host, entry.workers, entry.python) for entry in both.WKHUB_HOSTS] == [
        ("anna@lab2", None, ""),
        ("lab3", 8, "/opt/python"),
    ]
    assert load(both.as_dict()).WKHUB_HOSTS == both.WKHUB_HOSTS


def test_groups_with_a_launcher_are_not_part_of_the_hub_here() -> None:
    slurm = {"nWorkers": 8, "minP": 5, "launcher": "slurm", "options": {"sbatch": "--time=60", "hubs": 2}}
    both = load({"WKHUB_WORKERS": [slurm, {"nWorkers": 2}]})
    assert [group.workers for group in both.here().groups()] == [2]
    assert [group.workers for group in both.here().groups(5)] == [5]
    assert (both.batch_options(0).hubs, both.batch_options(0).backlog) == (2, 4)
    alone = load({"WKHUB_WORKERS": [slurm]})
    assert [group.workers for group in alone.here().groups()] == [0]
    assert [group.workers for group in alone.here().groups(3)] == [3]


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ({"launcher": "pbs"}, r"WKHUB_WORKERS\[0\].launcher is \"pbs\"; it must be \"slurm\" for hubs that Slurm runs"),
        ({"launcher": "slurm", "options": {"hubs": 0}}, r"WKHUB_WORKERS\[0\].options.hubs is 0; it must be a whole"),
        ({"launcher": "slurm", "options": {"sbath": ""}}, r"\"sbath\" is not a key of .*did you mean sbatch"),
        ({"options": {"sbatch": ""}}, 'the engine "processes" has no options'),
    ],
)
def test_wrong_options_of_a_launcher(group: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParametersError, match=sentence):
        load({"WKHUB_WORKERS": [{"nWorkers": 1, **group}]})
