"""The key store's file and the core's key pair: private, written whole, read again when changed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from nblb.access.key_file import KeyFile
from nblb.errors import NblbError, NotAllowed

PAIR = ("p" * 40, "s" * 40)


def test_the_core_makes_its_keys_once(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    with pytest.raises(NblbError, match="no keys yet"):
        file.server_pair()
    public, secret = file.server_pair(lambda: PAIR)
    assert (public, secret.reveal()) == PAIR
    assert KeyFile(tmp_path).server_pair(lambda: ("x" * 40, "y" * 40))[0] == PAIR[0]
    assert file.ticket_key() == KeyFile(tmp_path).ticket_key()
    file.save()
    for path in file.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(file.folder.stat().st_mode) == 0o700


def test_another_process_reads_what_has_changed(tmp_path: Path) -> None:
    writer, reader = KeyFile(tmp_path), KeyFile(tmp_path)
    assert not reader.refresh()
    writer.store.invite("i" * 40, "anna", "user", 0.0, 60.0)
    writer.save()
    assert reader.refresh()
    assert reader.store.verdict("i" * 40, 1.0).state == "invited"
    assert not reader.refresh()


def test_files_that_others_can_read_are_refused(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.server_pair(lambda: PAIR)
    (file.folder / "server.key").chmod(0o640)
    with pytest.raises(NotAllowed, match=r"can be read by other accounts \(mode 640\)"):
        file.server_pair()
    file.save()
    file.path.chmod(0o644)
    with pytest.raises(NotAllowed, match="mode 644"):
        KeyFile(tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.save()
    file.path.write_text("{")
    with pytest.raises(NblbError, match="damaged"):
        KeyFile(tmp_path)
    file.path.write_text('{"version": 9}')
    with pytest.raises(NblbError, match="format 9"):
        KeyFile(tmp_path)
    (file.folder / "server.key").write_text("short")
    (file.folder / "server.key").chmod(0o600)
    with pytest.raises(NblbError, match="damaged"):
        file.server_pair()
