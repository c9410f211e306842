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
    if scheduler.has_blob(message.hash):
        return ""
    name = clean_name(message.name) or "a blob"
    try:
        if is_name_of(message.hash, message.payload):
            return ""
    except OSError as error:
        return f"the core cannot read the file with the bytes of {name} ({error.strerror or error}); submit again"
    return (
        f"the bytes of {name} do not have the hash {clean_name(message.hash)!r} that names them: they were changed "
        "after they were named; submit again"
    )
