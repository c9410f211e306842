"""Posts a JSON text from standard input to a web address, in a process of its own (broker/job_end_hook.py)."""

from __future__ import annotations

import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

from nblb.system.private_folder import is_loopback

TIMEOUT_S = 20.0


def main(arguments: Sequence[str]) -> int:
    """Post to the address `arguments[0]`; return 0 if it answered with success."""
    request = urllib.request.Request(
        arguments[0], sys.stdin.buffer.read(), {"Content-Type": "application/json"}, method="POST"
    )
    name = urllib.parse.urlsplit(arguments[0]).hostname or ""
    proxies: dict[str, str] | None = {} if is_loopback(name) else None  # None stands for those of the environment
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler(proxies)).open(request, timeout=TIMEOUT_S):
            return 0
    except (urllib.error.URLError, OSError, ValueError) as error:
        print(f"LB_ON_JOB_END: {arguments[0]} : {error}", file=sys.stderr)
        return 1
