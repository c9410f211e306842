"""The benchmark suite itself, with tiny sizes: it runs, and reports what a system cannot do. No times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import run
from tests.benchmarks.cases import CASES, FULL, QUICK, SIZES, TINY
from tests.benchmarks.goals import GOALS, needed
from tests.benchmarks.registry import SYSTEMS
from tests.benchmarks.results import Outcome, Results
from tests.benchmarks.tables import BEGIN, END, ROWS, into_readme, markdown, short


def results(**figures: dict[str, float]) -> Results:
    """A run of nblb and Dask; `latency_nblb={"p50_us": 1}`."""
    made = Results("2030-01-01 00:00", {"cores": 2, "processor": "P", "memory_GiB": 4, "system": "Linux 6",
                   "python": "3.12", "load": [0.5, 0.5, 0.5]}, {"nblb": "", "dask": "2030.1"})  # fmt: skip
    for key, found in figures.items():
        case, system = key.rsplit("_", 1)
        made.note(case, system, Outcome(found))
    return made


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_a_run_of_everything_that_is_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """nblb and a pool run in separate processes, from the command line to the tables."""
    path, table = tmp_path / "figures.json", tmp_path / "table.md"
    cases = ("startup", "submit", "constant_put", "idle", "backlog_1000", "clients")
    words = ["--systems", "nblb,processpool", "--cases", ",".join(cases), "--repeats", "1", "--size", "tiny"]
    found = run.main([*words, "--minutes", "0", "--json", str(path), "--markdown", str(table)])
    assert found.words == {"constant_put/processpool": "no put", "clients/processpool": "one process only"}
    expected = {f"{case}/nblb" for case in cases}
    expected |= {f"{case}/processpool" for case in ("startup", "submit", "idle", "backlog_1000")}
    assert set(found.figures) == expected
    (backlog,) = found.figures["backlog_1000/nblb"]
    assert backlog["reached"] == 1000
    assert backlog["dispatch_core_us"] > 0
    assert Results(**json.loads(path.read_text())) == found
    assert table.read_text().strip() in capsys.readouterr().out
    assert "one process only" in table.read_text()


def test_many_hubs_and_a_task_that_fails_to_start(tmp_path: Path) -> None:
    outcome = run.one("nblb", ("no such case",), "tiny", 60)["no such case"]
    assert outcome.word == "failed: KeyError: 'no such case'"
    outcome = run.one("processpool", ("hubs",), "tiny", 60)["hubs"]
    assert outcome.word == "has no hubs"
    outcome = run.one("nblb", ("hubs",), "tiny", 120)["hubs"]
    assert outcome.figures["processes"] >= 8, outcome.word  # core, health, and three for each of two hubs


def test_a_run_that_takes_too_long_leaves_nothing() -> None:
    outcome = run.one("nblb", ("latency",), "tiny", 0.0)["latency"]
    assert outcome.word == "over 0 s"


def test_several_cases_in_one_process() -> None:
    outcomes = run.one("processpool", ("latency", "constant_put", "submit"), "tiny", 60)
    assert outcomes["constant_put"].word == "no put"
    assert outcomes["latency"].figures["p50_us"] > 0
    assert outcomes["submit"].figures["tasks_per_s"] > 0


def test_what_a_process_has_said_counts_although_it_did_not_end() -> None:
    said = 'noise\nFIGURES latency 1.5 {"p50_us": 2.0}\nWORD constant_put 0.1 no put\nFIGURES'
    assert run._outcomes(said) == {
        "latency": Outcome({"p50_us": 2.0}, took_s=1.5),
        "constant_put": Outcome(word="no put", took_s=0.1),
    }


def test_what_is_not_installed_is_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SYSTEMS, "dask", SYSTEMS["dask"].__class__("Dask", "clusters:Dask", "no_such_module"))
    found = run.main(["--systems", "dask", "--cases", "submit,idle", "--size", "tiny"])
    assert found.words == {"submit/dask": "not installed", "idle/dask": "not installed"}


def test_what_matters_comes_first() -> None:
    """A round ends before the next begins; README's cases come first, and Dask starts once for all of them."""
    order = run.plan(["nblb", "dask"], ["latency", "hubs", "backlog_100000", "submit"], 2)
    told = [f"{'+'.join(one.cases)} {one.system} {one.repeat + 1}" for one in order]
    assert told == [
        "latency nblb 1", "latency+submit dask 1", "submit nblb 1", "hubs nblb 1", "hubs dask 1",
        "backlog_100000 nblb 1", "backlog_100000 dask 1",
        "latency nblb 2", "submit nblb 2", "latency+submit dask 2", "hubs nblb 2", "hubs dask 2",
    ]  # fmt: skip


def test_the_goals_need_less() -> None:
    only = needed()
    assert ("closure", "joblib") in only
    assert ("idle", "dask") not in only
    order = run.plan(list(SYSTEMS), list(CASES), 1, only)
    assert {(case, one.system) for one in order for case in one.cases} == only
    assert sum(one.about_s for one in order) < 15 * 60
    everything = run.plan(list(SYSTEMS), list(CASES), 1)
    assert {(case, one.system) for one in everything for case in one.cases} == {(c, s) for c in CASES for s in SYSTEMS}
    of_everybody = ("bare", "processpool", "loky", "joblib", "mpire", "nblb", "dask", "ipyparallel", "ray")
    usual = run.plan(list(of_everybody), list(CASES), 1)
    assert sum(one.about_s for one in usual) < 30 * 60, "a round of everything does not fit in its time"


def test_settings_of_a_case_need_a_start_of_their_own() -> None:
    for entry in SYSTEMS.values():
        if entry.installed:
            assert set(entry.load().tries) <= set(entry.alone)


def test_larger_backlogs_are_not_tried_in_vain() -> None:
    made = results()
    run._skip_larger(made, "dask", "backlog_10000", Outcome({"reached": 4000.0}))
    assert made.words == {"backlog_100000/dask": "4,000 reached", "backlog_1000000/dask": "4,000 reached"}


def test_the_short_table_has_medians_and_ratios() -> None:
    made = results(latency_nblb={"p50_us": 400.0}, latency_dask={"p50_us": 10_000.0}, submit_nblb={"tasks_per_s": 9e3})
    made.note("latency", "nblb", Outcome({"p50_us": 500.0}))
    made.note("latency", "nblb", Outcome({"p50_us": 900.0}))
    made.note("submit", "dask", Outcome(word="no single submits"))
    lines = short(made).splitlines()
    assert lines[0] == "| | nblb | Dask |"
    assert "| one task there and back, median, ms | **0.50** | 10.00 (20×) |" in lines
    assert "| single submits, tasks/s | **9,000** | no single submits |" in lines
    whole = markdown(made)
    assert "| nblb | 500 [400 - 900] | 3 |" in whole
    assert "load 0.5 when it began" in whole


def test_a_backlog_that_was_not_reached_is_no_figure() -> None:
    made = results(
        backlog_10000_nblb={"reached": 1e4, "submit_us": 20.0}, backlog_10000_dask={"reached": 4e3, "submit_us": 9.0}
    )
    assert "| submit behind 10,000 queued, us | **20** | 4,000 reached |" in short(made)


def test_goals_are_judged_by_ratios() -> None:
    made = results(latency_nblb={"p50_us": 500.0}, latency_dask={"p50_us": 10_000.0})
    (dask,) = [goal for goal in GOALS if goal.text.endswith("of Dask") and "round trip" in goal.text]
    assert dask.judge(made) == ("0.05", "reached")
    assert dask.judge(results(latency_nblb={"p50_us": 5e3}, latency_dask={"p50_us": 1e4})) == ("0.5", "**not reached**")
    assert dask.judge(results()) == ("", "not measured")


def test_the_readme_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    made = results(latency_nblb={"p50_us": 400.0})
    into_readme(path, made)
    text = path.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| | nblb |")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    into_readme(path, made)
    assert path.read_text() == text


def test_names_are_known() -> None:
    assert {row.case for row in ROWS} <= set(CASES)
    assert set(run.KEY) | run.ONCE <= set(CASES)
    assert SIZES == {"full": FULL, "quick": QUICK, "tiny": TINY}
    for entry in SYSTEMS.values():
        if entry.installed:
            assert entry.load()


def test_a_wrong_name_is_said() -> None:
    with pytest.raises(SystemExit, match="there is no system 'slurm'; there are nblb, bare"):
        run.main(["--systems", "slurm"])
