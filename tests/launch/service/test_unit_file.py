"""The text of a unit, as systemd itself reads it where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nblb.errors import NblbError
from nblb.launch.service.unit_file import ROLES, ServiceUnit, quoted, unit_name


def unit(role: str = "core", is_system: bool = False, **more: object) -> ServiceUnit:
    command = ["/usr/bin/env", "nblb", role, "--parameters", "/a folder/with 100% of $HOME/lab.json"]
    return ServiceUnit("lab", role, command, is_system, **more)  # type: ignore[arg-type]


def test_a_unit_of_an_account() -> None:
    text = unit(environment={"XDG_STATE_HOME": "/a b"}).text()
    assert unit().name == "nblb-lab-core.service" == unit_name("lab", "core")
    assert 'ExecStart=/usr/bin/env nblb core --parameters "/a folder/with 100%% of $$HOME/lab.json"' in text
    assert 'Environment="XDG_STATE_HOME=/a b"' in text
    assert "WantedBy=default.target" in text
    assert "Restart=on-failure" in text
    assert "User=" not in text
    assert "network-online" not in text, "an account's systemd has no such target"


def test_a_unit_of_the_computer() -> None:
    text = unit("hub", True, account="anna", needs_core=True).text()
    assert "User=anna" in text
    assert "WantedBy=multi-user.target" in text
    assert "After=nblb-lab-core.service network-online.target" in text
    assert "Restart=always" in text, "it comes back with its core"


@pytest.mark.parametrize(
    ("word", "said"), [("plain-1.2", "plain-1.2"), ('a "b"', '"a \\"b\\""'), ("a\\b c", '"a\\\\b c"'), ("é", '"é"')]
)
def test_words_are_quoted(word: str, said: str) -> None:
    assert quoted(word) == said


def test_a_line_break_is_refused() -> None:
    with pytest.raises(NblbError, match="control character"):
        quoted("a\nExecStart=/bin/evil")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("is_system", [False, True])
def test_systemd_finds_nothing_wrong(role: str, is_system: bool, tmp_path: Path) -> None:
    one = unit(role, is_system, account="root" if is_system else "", environment={"A": 'x "y" %z'})
    path = tmp_path / one.name
    path.write_text(one.text())
    words = ["systemd-analyze", *([] if is_system else ["--user"]), "--man=no", "verify", str(path)]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert one.name not in said.stderr + said.stdout
