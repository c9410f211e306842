"""A job as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.client.jobs.ledger import Ledger
from nblb.protocol.messages import TaskState
from nblb.user_text import kind_of

if TYPE_CHECKING:
    import pandas as pd


HASH = 8  # digits of a hash to show


def dataframe(ledger: Ledger, code: str) -> pd.DataFrame:
    """One row an item: state, whether it was stopped early, code hash, result (or its keys), error, place."""
    import pandas as pd

    rows = []
    for item in range(ledger.total):
        state = ledger.state(item)
        row: dict[str, Any] = {
            "state": state.value,
            "kept": item in ledger.kept,
            "code": ledger.codes.get(item, code)[:HASH],
        }
        if state is TaskState.DONE:
            try:
                value = ledger.loader(item)()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever a user's class raises
                row.update(error=f"its result cannot be loaded here: {kind_of(error)}: {error}")
            else:
                row.update(value if isinstance(value, dict) else {"result": value})
        failure = ledger.failures.get(item)
        if failure is not None:
            row.update(error=f"{failure.kind}: {failure.message}", where=failure.where)
        rows.append(row)
    frame: pd.DataFrame = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="item"))
    return frame
