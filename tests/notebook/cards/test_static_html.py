from __future__ import annotations

import re

from nblb.notebook.cards import static_html, view_model
from tests.notebook.fakes import FakeCluster, FakeJob, FakeTask


def described(job: FakeJob) -> dict[str, object]:
    snapshot = job.snapshot()
    return {**view_model.job(snapshot), "failures": view_model.job_failures(snapshot)}


def test_html_reads_without_style_or_script() -> None:
    job = FakeJob(total=20, bad={3}, age=10)
    html = static_html.html(described(job), "abc")
    assert 'class="nblb-card nblb-live-abc"' in html
    assert "style" not in html
    assert "<script" not in html
    words = " ".join(re.sub("<[^>]*>", " ", html).split())  # all that GitHub may leave of it
    assert "sweep" in words
    assert "20 of 20 tasks, 1 failed" in words
    assert "1 failed" in words
    assert "ValueError at cell In[3] line 4" in words


def test_html_escapes_what_tasks_say() -> None:
    job = FakeJob(name="<img src=x onerror=alert(1)>")
    assert "<img" not in static_html.html(described(job))


def test_text() -> None:
    text = static_html.text(described(FakeJob(total=20, age=10)))
    assert text.splitlines()[0] == "sweep: ✓ done"
    assert "[##############################] 100 %, 20 of 20 tasks" in text


def test_a_task_keeps_its_output_and_traceback() -> None:
    html = static_html.html(view_model.task(FakeTask(fails=True, age=10).snapshot()))
    assert "epoch 2" in html
    assert "in simulate" in html


def test_a_cluster_is_a_table() -> None:
    html = static_html.html(view_model.cluster(FakeCluster().snapshot()))
    for word in ("lab-5799", "hub-1", "durability", "120 waiting"):
        assert word in html


def test_tables_are_set_as_words_everywhere() -> None:
    cluster = static_html.html(view_model.cluster(FakeCluster().snapshot()))
    assert cluster.count("<td") + cluster.count("<th ") == cluster.count('style="text-align:left"')


def test_states_of_a_newer_core_are_shown_by_their_name() -> None:
    assert static_html.look("DREAMING") == ("?", "dreaming")
