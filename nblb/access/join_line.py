"""The line that `nblb invite` prints and `nblb join` reads; pure.

    tcp://HOST:PORT/CLUSTER/SERVERKEY/SECRET

It has the core's public key, so that the first connection is safe already, and the secret half of a one-time key. All
of it is in characters that no shell treats specially.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from nblb.access.secret import Secret
from nblb.errors import NblbError

_LINE = re.compile(
    r"(?:nblb\s+join\s+)?['\"]?tcp://(\[[0-9A-Fa-f:.%a-z0-9]+\]|[^\s/:\[\]]+):(\d{1,5})/([\w.-]{1,64})/([\w-]{43})/([\w-]{43})['\"]?"
)


@dataclass(frozen=True)
class JoinLine:
    """An invitation as a party gets it; keys are 32 bytes in Z85."""

    host: str
    port: int
    cluster: str
    server_key: str
    secret: Secret

    @property
    def address(self) -> str:
        """The address of the clients' door."""
        return f"tcp://{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """Return the host as it stands in an address."""
    return f"[{host}]" if ":" in host else host


def written(host: str, port: int, cluster: str, server_key: bytes, secret: bytes) -> str:
    """Return the line; both keys are 32 raw bytes."""
    return f"tcp://{bracketed(host)}:{port}/{cluster}/{_text(server_key)}/{_text(secret)}"


def parsed(line: str) -> tuple[str, int, str, bytes, bytes]:
    """Return host, port, cluster, and both keys as raw bytes.

    Raises
    ------
    NblbError
        It is not such a line. The message does not repeat it, since it may hold a secret.
    """
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise NblbError(
            "that is not the line that 'nblb invite' prints; it begins with tcp:// and has a host, a port, a cluster's "
            "name and two keys: copy all of it"
        )
    host, port, cluster, server_key, secret = found.groups()
    if not 1 <= int(port) <= 65535:
        raise NblbError(f"the port in that line is {port}; it must be from 1 to 65535")
    return host.strip("[]"), int(port), cluster, _bytes(server_key), _bytes(secret)


def _text(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=")
