from __future__ import annotations

from IPython.lib.pretty import pretty

from nblb.client.futures.output import LINES, TAIL_CHARS, JobOutput, OutputText, TaskOutput


def test_a_task_keeps_its_tail_and_tells_what_is_new() -> None:
    output = TaskOutput()
    output.add("stdout", "one\n")
    text, at = output.after("stdout", 0)
    assert text == "one\n"
    assert output.after("stdout", at) == ("", at)
    output.add("stdout", "x" * (TAIL_CHARS + 10))
    text, at = output.after("stdout", at)
    assert (len(text), at) == (TAIL_CHARS, TAIL_CHARS + 14)
    output.add("stdout", "end")
    assert output.after("stdout", at)[0] == "end"
    assert len(output.tail("stdout")) == TAIL_CHARS
    assert output.after("stderr", 0) == ("", 0)


def test_both_streams_in_one_text() -> None:
    output = TaskOutput()
    output.add("stderr", "oh\n")
    output.add("stdout", "one\n")
    output.add("stderr", "no\n")
    assert output.both() == "oh\none\nno"
    assert output.pieces_after(1) == ([("stdout", "one\n"), ("stderr", "no\n")], 3)
    assert output.pieces_after(3) == ([], 3)
    for _ in range(10):
        output.add("stdout", "x" * TAIL_CHARS)
    assert output.both() == "x" * TAIL_CHARS
    pieces, at = output.pieces_after(0)
    assert at == 13
    assert sum(len(text) for _, text in pieces) <= 2 * TAIL_CHARS


def test_a_job_keeps_whole_lines_with_their_items_and_those_that_grow() -> None:
    output = JobOutput()
    output.add(3, "stdout", "first ha")
    output.add(4, "stderr", "oh\n")
    output.add(3, "stdout", "lf\nsec")
    assert output.written == 3
    assert [(line.item, line.stream, line.text) for line in output.latest(9)] == [
        (4, "stderr", "oh"),
        (3, "stdout", "first half"),
        (3, "stdout", "sec"),
    ]


def test_bars_show_their_last_state_and_the_number_of_lines_is_bounded() -> None:
    output = JobOutput()
    output.add(0, "stdout", " 1%\r 2%\r 3%\r\n")
    assert output.latest(1)[0].text == " 3%"
    for item in range(5 * LINES):
        output.add(item, "stdout", "open")
        output.add(item, "stderr", "line\n")
    assert len(output.latest(10_000)) <= 2 * LINES
    assert output.latest(1)[0].item == 5 * LINES - 1


def test_a_long_text_has_a_short_repr_and_is_a_str_all_the_same() -> None:
    short, long = OutputText("a\n"), OutputText("x" * 1_000_000)
    assert (repr(short), short == "a\n", len(long)) == (repr("a\n"), True, 1_000_000)
    assert len(repr(long)) < 9_000
    assert "977 kB more" in repr(long) or "969 kB more" in repr(long)
    assert pretty(long) == repr(long)


def test_what_was_heard_counts_also_where_it_was_not_passed_on() -> None:
    output = TaskOutput()
    output.add("stdout", "shown", 1000)
    output.add("stderr", "e" * 7)
    assert output.nbytes == 1007
