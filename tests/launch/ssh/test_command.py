"""The command lines of ssh, and the reasons for its end."""

from __future__ import annotations

import pytest

from nblb.errors import NblbError
from nblb.launch.ssh import command


@pytest.mark.parametrize("host", ["", "-oProxyCommand=evil", "a b", "a\nb", "a\0b", "\u202ehost"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(NblbError, match="must be a name for ssh"):
        command.check_host(host)


@pytest.mark.parametrize("host", ["lab2", "anna@lab2.example.org", "ssh://anna@lab2:2222"])
def test_a_host_is_whatever_ssh_takes(host: str) -> None:
    assert command.check_host(host) == host


def test_the_command_asks_no_password_and_notices_a_dead_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_SSH", "ssh -F 'my config'")
    words = command.run("anna@lab2", "python3", b"program")
    assert words[:3] == ["ssh", "-F", "my config"]
    assert {"BatchMode=yes", "ServerAliveInterval=2", "ClearAllForwardings=yes"} <= set(words)
    assert words[-3:-1] == ["--", "anna@lab2"]
    assert "exec python3 -u -c" in words[-1]
    assert "read(7)" in words[-1]


def test_a_tunnel_with_a_colon_in_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_SSH", "ssh")
    words = command.run("lab2", "python3", b"", ("/tmp/x.sock", "/home/a:b/hubs.local"))
    assert words[words.index("-R") + 1] == "/tmp/x.sock:/home/a\\:b/hubs.local"
    assert "ExitOnForwardFailure=yes" in words


def test_an_answer_after_what_a_login_script_prints(fake_ssh: str) -> None:
    assert command.answer("lab2", fake_ssh, "probe", {}, 60)["nblb"]


def test_a_refusal_says_what_to_do(fake_ssh: str) -> None:
    with pytest.raises(
        command.HostUnreachable, match=r"nobody@lab2 cannot be reached.*Permission denied.*set up a key"
    ):
        command.answer("nobody@lab2", fake_ssh, "probe", {}, 60)


def test_a_python_that_is_not_there(fake_ssh: str) -> None:
    with pytest.raises(NblbError, match=r"does not run as '/no/such/python' on lab2 .*name it with --python COMMAND"):
        command.answer("lab2", "/no/such/python", "probe", {}, 60)


def test_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_SSH", "/no/such/ssh")
    with pytest.raises(NblbError, match="is ssh installed"):
        command.answer("lab2", "python3", "probe", {}, 60)


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (b"Host key verification failed.\r\n", "run 'ssh lab2' once"),
        (b"Error: remote port forwarding failed for listen path /tmp/x", "AllowStreamLocalForwarding"),
        (b"", "ssh ended with code 255"),
        (b"\xff\n", "\ufffd"),
    ],
)
def test_reasons(stderr: bytes, words: str) -> None:
    assert words in command.reason("lab2", 255, stderr)


def test_what_follows_a_reason_is_kept_apart() -> None:
    assert command.reason("lab2", 255, b"a warning\nPermission denied (publickey).\n").startswith("Permission denied")


@pytest.mark.parametrize("line", [b"hello", b"{", b"[1]", b'{"a": 1', b"\xff"])
def test_other_output_is_no_message(line: bytes) -> None:
    assert command.message(line) is None
