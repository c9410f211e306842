"""A job as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.client.jobs.ledger import Ledger
from nblb.protocol.messages import TaskState

if TYPE_CHECKING:
    import pandas as pd


def dataframe(ledger: Ledger) -> pd.DataFrame:
    """One row an item: state, result (a column for each key if results are dicts), error, where."""
    import pandas as pd

    rows = []
    for item in range(ledger.total):
        state = ledger.state(item)
        row: dict[str, Any] = {"state": state.value}
        if state is TaskState.DONE:
            value = ledger.loader(item)()
            row.update(value if isinstance(value, dict) else {"result": value})
        failure = ledger.failures.get(item)
        if failure is not None:
            row.update(error=f"{failure.kind}: {failure.message}", where=failure.where)
        rows.append(row)
    frame: pd.DataFrame = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="item"))
    return frame
