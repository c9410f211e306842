"""A forwarder of a socket, like `ssh -L`: `python -m tests.end_to_end.forward LISTEN DIAL [DELAY_S]`.

Each end is the path of a Unix socket, or HOST:PORT. Hubs and clients speak over Unix sockets until parties have keys;
with one of these on each computer their words cross a real network, with all that TCP makes of its faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

BYTES = 1 << 16


class Forward:
    """Dials for each connection that comes."""

    def __init__(self, listen: str, dial: str, delay_s: str = "0") -> None:
        self.listen, self.dial = listen, dial
        self.delay_s = float(delay_s)  # of each direction, whatever is under way already

    async def run(self) -> None:
        if self.listen.startswith("/"):
            server = await asyncio.start_unix_server(self.connected, self.listen)
        else:
            host, port = self.listen.split(":")
            server = await asyncio.start_server(self.connected, host, int(port))
        print("listening", flush=True)
        await server.serve_forever()

    async def connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            if self.dial.startswith("/"):
                far, forth = await asyncio.open_unix_connection(self.dial)
            else:
                host, port = self.dial.split(":")
                far, forth = await asyncio.open_connection(host, int(port))
        except OSError:
            back.close()
            return
        await asyncio.gather(self.pass_on(near, forth), self.pass_on(far, back))

    async def pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await source.read(BYTES):
                if self.delay_s:
                    loop.call_later(self.delay_s, target.write, data)
                else:
                    target.write(data)
                    await target.drain()
        loop.call_later(self.delay_s, target.close)


if __name__ == "__main__":
    asyncio.run(Forward(*sys.argv[1:]).run())
