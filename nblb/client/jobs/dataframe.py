"""A job as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.client.jobs.ledger import UNKNOWN, Ledger
from nblb.protocol.messages import TaskState
from nblb.user_text import kind_of, text_of

if TYPE_CHECKING:
    import pandas as pd

    from nblb.client.jobs.arguments import JobArguments


HASH = 8  # digits of a hash to show
MOST = 500  # characters of an error
MB = 1_000_000
OWN = frozenset(
    {"state", "kept", "code", "duration_s", "peak_mb", "attempt", "host", "ended_at"}
)  # columns of every job


def dataframe(ledger: Ledger, code: str, arguments: JobArguments | None = None) -> pd.DataFrame:
    """A table with one row an item: state, arguments, result (or its keys), code, times, place, and error."""
    import pandas as pd

    rows = []
    for item in range(ledger.total):
        state = ledger.state(item)
        row: dict[str, Any] = {"state": state.value}
        given = arguments.of(item) if arguments is not None else None
        for name, value in (given or {}).items():
            row[f"{name} (argument)" if name in OWN else name] = value
        result: dict[str, Any] = {}
        if state is TaskState.DONE:
            try:
                value = ledger.loader(item)()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a user's class may raise anything
                result = {"error": f"its result cannot be loaded here: {kind_of(error)}: {text_of(error, MOST)}"}
            else:
                result = value if isinstance(value, dict) else {"result": value}
        row.update({f"{name} (result)" if name in OWN else name: it for name, it in result.items()})
        row.update(_made(ledger, item, code))
        failure = ledger.failures.get(item)
        if failure is not None:
            row.update(error=f"{failure.kind}: {failure.message}", where=failure.where)
        rows.append(row)
    frame: pd.DataFrame = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="item"))
    return frame


def _made(ledger: Ledger, item: int, code: str) -> dict[str, Any]:
    """The code, duration, memory, place and end of an item; empty values until it has ended."""
    ending = ledger.ending(item) if ledger.has_ended(item) else UNKNOWN
    return {
        "kept": item in ledger.kept,
        "code": ledger.codes.get(item, code)[:HASH],
        "duration_s": ending.duration_s,
        "peak_mb": round(ending.peak_bytes / MB, 1) if ending.peak_bytes else None,
        "attempt": ending.attempt,
        "host": ending.host,
        "ended_at": ending.ended_at,
    }
