"""Functions and constants whose bytes do not have the hash that names them: refused, so that nobody's code is replaced.

A blob is checked once, when the core first receives it: the core ignores the bytes of a name that it knows.
"""

from __future__ import annotations

from nblb.protocol.blob_names import is_name_of
from nblb.protocol.messages import PutBlob
from nblb.scheduling.scheduler import Scheduler
from nblb.user_text import clean_name


def forgery(scheduler: Scheduler, message: PutBlob) -> str:
    """Return why the core refuses a blob, or "": its bytes do not have the hash that names them."""
    if scheduler.has_blob(message.hash) or _is_genuine(message):
        return ""
    return (
        f"the bytes of {clean_name(message.name) or 'a blob'} do not have the hash {clean_name(message.hash)!r} that "
        "names them: they were changed after they were named; submit again"
    )


def _is_genuine(message: PutBlob) -> bool:
    try:
        return is_name_of(message.hash, message.payload)
    except OSError:
        return False
