"""CURVE key pairs, and the settings of sockets that use them."""

from __future__ import annotations

from typing import NamedTuple

import zmq
from zmq.utils import z85

from nblb.access import connection_file
from nblb.access.secret import Secret
from nblb.errors import NblbError

HANDSHAKE_MS = 5_000  # a connection that has not completed its handshake by then is closed
DOMAIN = b"nblb"  # without a domain, a party without any mechanism would not be asked about at all
FAST_FROM = (27, 3)  # the pyzmq from which its libsodium encrypts about 20 times as fast


class KeyPair(NamedTuple):
    """A public key, in Z85, and its secret half."""

    public: str
    secret: Secret


def new_pair() -> tuple[str, str]:
    """Return a new public and secret key in Z85; the caller writes them to a file or wraps the second in a Secret."""
    check_curve()
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def new_key_pair() -> KeyPair:
    """Return a new key pair."""
    public, secret = new_pair()
    return KeyPair(public, Secret(secret))


def public_half(secret: Secret) -> str:
    """Return the public key that belongs to a secret one."""
    return zmq.curve_public(secret.reveal().encode()).decode()


def raw(key: str) -> bytes:
    """Return the 32 bytes of a key in Z85."""
    return z85.decode(key)


def as_text(key: bytes) -> str:
    """Return 32 bytes as a key in Z85."""
    return z85.encode(key).decode()


def check_curve() -> None:
    """Raise NblbError if this pyzmq cannot encrypt."""
    if not zmq.has("curve"):
        raise NblbError(
            f"this pyzmq ({zmq.pyzmq_version()}) was built without CURVE, so it cannot reach other computers; install "
            "another with: pip install 'nblb[remote]'"
        )


def slowness() -> str:
    """Return a sentence if this pyzmq encrypts slowly; "" if it is quick."""
    numbers = zmq.pyzmq_version_info()[:2]
    if numbers >= FAST_FROM:
        return ""
    return (
        f"pyzmq {zmq.pyzmq_version()} encrypts at about 40 MiB/s, pyzmq 27.3 at about 900; "
        "install it with: pip install 'nblb[remote]'"
    )


def guard(socket: zmq.Socket[bytes], pair: KeyPair) -> None:
    """Make a socket the server's side: it accepts parties only after the ZAP handler has let them in."""
    socket.curve_server = True
    socket.curve_publickey = pair.public.encode()
    socket.curve_secretkey = pair.secret.reveal().encode()
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)


def dial_plainly(socket: zmq.Socket[bytes], address: str) -> None:
    """Connect a socket to an address, with the keys of the connection file that it names, if any."""
    plain, path = connection_file.split(address)
    if path is not None:
        found = connection_file.read(path)
        identify(socket, KeyPair(found.public_key, found.secret_key), found.server_key)
    socket.connect(plain)


def identify(socket: zmq.Socket[bytes], pair: KeyPair, server_key: str) -> None:
    """Make a socket a party's side: it proves its key, and talks to the owner of `server_key` only."""
    check_curve()
    socket.curve_publickey = pair.public.encode()
    socket.curve_secretkey = pair.secret.reveal().encode()
    socket.curve_serverkey = server_key.encode()
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
