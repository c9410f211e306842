"""The data of the Monitor's charts: gaps, stacked users, and spans."""

from __future__ import annotations

from math import isnan

from nblb.monitoring import charts
from tests.monitoring.fake_source import FakeSource


def test_a_line_is_broken_between_bins_that_do_not_follow_each_other() -> None:
    bins = [{"at": at, "queued": 1.0} for at in (0.0, 10.0, 40.0, 50.0)]
    columns = charts.with_gaps(bins, 10.0, ["queued"])
    assert [isnan(value) for value in columns["queued"]] == [False, False, True, False, False]
    assert len(columns["t"]) == 5


def test_lines_show_the_whole_time_asked_for() -> None:
    source = FakeSource()
    source.abouts["history"] = {"seconds": 3600}
    lines = charts.Lines({"queued": ("queued", "red", "solid")}, "calls")
    lines.show(source.answer_history())
    assert lines.chart.x_range.end - lines.chart.x_range.start == 3_600_000
    assert lines.chart.y_range.end > 50
    lines.show({"bins": []})
    assert lines.chart.y_range.end == 1.0


def test_users_beyond_the_colours_are_summed() -> None:
    areas = charts.UserAreas()
    used = {f"u{n}": float(20 - n) for n in range(12)}
    areas.show({"bins": [{"at": 0.0, "used_s": used}], "width_s": 10.0, "now": 10.0})
    assert [item.label.value for item in areas.chart.legend[0].items][-1] == "others"
    assert areas.source.data[f"u{charts.MOST_USERS}"] == [sum(20.0 - n for n in range(charts.MOST_USERS, 12)) / 10.0]
    areas.show({"bins": [], "now": 10.0})


def test_the_timeline_follows_the_time_until_somebody_zooms() -> None:
    source = FakeSource()
    source.abouts["timeline"] = {"seconds": 300}
    timeline = charts.TimelineChart()
    colours = timeline.show(source.answer_timeline())
    assert set(colours) == {"simulate", "fit"}
    first = timeline.chart.x_range.end
    later = {**source.answer_timeline(), "now": source.answer_timeline()["now"] + 5}
    timeline.show(later)
    assert timeline.chart.x_range.end > first
    timeline.chart.x_range.end -= 60_000
    zoomed = timeline.chart.x_range.end
    timeline.show(later, by="user")
    assert timeline.chart.x_range.end == zoomed


def test_a_legend_that_comes_later_has_the_colours_of_the_theme() -> None:
    areas = charts.UserAreas()
    charts.pane(areas.chart, dark=True)
    areas.show({"now": 100.0, "seconds": 60, "width_s": 10.0, "bins": [{"at": 90.0, "used_s": {"anna": 5.0}}]})
    assert [legend.background_fill_color for legend in areas.chart.legend] == ["#14181d"]
