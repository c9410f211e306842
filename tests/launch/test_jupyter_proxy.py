"""The entry point of jupyter-server-proxy."""

from __future__ import annotations

from importlib.metadata import entry_points

from nblb.cli import parser
from nblb.launch.jupyter_proxy import setup


def test_the_command_is_one_of_ours() -> None:
    command = [word.format(port=1234, base_url="/user/anna/") for word in setup()["command"]]
    options = parser().parse_args(command[3:])
    assert (options.port, options.prefix) == (1234, "/user/anna/nblb")
    assert setup()["absolute_url"]


def test_it_is_found_where_the_package_is_installed() -> None:
    found = [point for point in entry_points(group="jupyter_serverproxy_servers") if point.name == "nblb"]
    assert not found or found[0].load() is setup
