"""Private files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from nblb.access.private_file import make_private_folder, read_private, write_private
from nblb.errors import NblbError, NotAllowed


def test_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private(path, "The file", "x") == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    path.chmod(0o604)
    with pytest.raises(NotAllowed, match=r"The file .* \(mode 604\).*, x\."):
        read_private(path, "The file", "x")
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "missing", "The file", "x")


def test_a_folder_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    assert make_private_folder(folder).stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(NblbError, match="a link or belongs to another account"):
        make_private_folder(tmp_path / "link")
    with pytest.raises(NblbError, match="cannot be made"):
        make_private_folder(Path("/dev/null/x"))
