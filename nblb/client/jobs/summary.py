"""A job's failures in one sentence: '37 of 1,000 failed: 36 × ValueError at cell In[7] line 4, 1 × KeyError …'."""

from __future__ import annotations

from nblb.client.jobs.ledger import Ledger
from nblb.client.snapshots import INDEX
from nblb.errors import NblbError, TaskError

MOST_GROUPS = 5


def summary(ledger: Ledger) -> str:
    """The number of items in each state, with the failures grouped."""
    number = {name: ledger.counts[place] for name, place in INDEX.items()}
    bad = number["FAILED"] + number["LOST"]
    open_items = ledger.total - ledger.ended
    words = []
    if bad:
        words.append(f"{bad:,} of {ledger.total:,} failed: {_groups(ledger)}")
    else:
        words.append(f"{number['DONE']:,} of {ledger.total:,} done")
    if ledger.kept:
        words.append(f"{len(ledger.kept):,} stopped early")
    if number["CANCELLED"]:
        limit = f", {len(ledger.ended_by_limit):,} by max_failures" if ledger.ended_by_limit else ""
        words.append(f"{number['CANCELLED']:,} cancelled{limit}")
    if open_items:
        words.append(f"{open_items:,} to come")
    return "; ".join(words)


def _groups(ledger: Ledger) -> str:
    groups = ledger.failure_groups()
    told = [
        f"{group.count:,} × {group.kind or 'no reason'}{f' at {group.where}' if group.where else ''}"
        for group in groups[:MOST_GROUPS]
    ]
    more = sum(group.count for group in groups[MOST_GROUPS:])
    return ", ".join([*told, f"{more:,} × others"] if more else told)


def summed_up(error: NblbError, ledger: Ledger, item: int) -> NblbError:
    """The error of an item with the summary of all failures of its job in front, and how to get the results behind."""
    if ledger.total > 1 and isinstance(error, TaskError):
        words = f"{summary(ledger)}; the first of them is item {item}:\n{error}{_rest(ledger)}"
        error.args = (words, *error.args[1:])
    return error


def _rest(ledger: Ledger) -> str:
    """How to get the results of the other items; "" if there are none."""
    done = ledger.counts[INDEX["DONE"]]
    if not done:
        return ""
    which = "The other result is" if done == 1 else f"The other {done:,} results are"
    return f'\n{which} in results(errors="skip"), and in dataframe() beside the errors.'
