"""The diagram and the table of docs/scheduling.md, generated from the table of transitions."""

from __future__ import annotations

from nblb.protocol.messages import ENDED, TaskState
from nblb.scheduling.slice import TRANSITIONS


def state_diagram() -> str:
    """A Mermaid state diagram: one arrow for each pair of states, with all its causes."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> QUEUED: SubmitTask", "    [*] --> BLOCKED: SubmitTask"]
    for state, row in TRANSITIONS.items():
        causes: dict[TaskState, list[str]] = {}
        for cause, new in row.items():
            if new is not state:
                causes.setdefault(new, []).append(cause)
        lines += [f"    {state} --> {new}: {', '.join(names)}" for new, names in causes.items()]
    lines += [f"    {state} --> [*]" for state in TaskState if state in ENDED]
    return "\n".join([*lines, "```"])


def transition_table() -> str:
    """All pairs: in each state, what can happen and where it leads."""
    lines = ["| In state | when | it becomes |", "|---|---|---|"]
    for state, row in TRANSITIONS.items():
        for cause, new in row.items():
            lines.append(f"| {state} | {cause} | {'stays so' if new is state else new} |")
        if not row:
            lines.append(f"| {state} | anything | stays so: facts about it are late |")
    return "\n".join(lines)


GENERATED = {"state diagram": state_diagram, "transition table": transition_table}


def with_diagrams(text: str) -> str:
    """The document with each generated part as it is now: what stands between its two marks."""
    for name, make in GENERATED.items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        assert found and closed, f"the document has no place for the {name}"  # noqa: PT018
        text = f"{before}{begin}\n{make()}\n\n{end}{after}"
    return text
