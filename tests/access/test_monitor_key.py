"""The Monitor's key: one for all processes, private, and made anew when it is renewed or was cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nblb.access.monitor_key import monitor_key, renew_monitor_key
from nblb.errors import NotAllowed


def test_all_who_ask_at_the_same_time_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: monitor_key(tmp_path), range(32)))
    assert len(found) == 1
    file = tmp_path / "access" / "monitor.key"
    assert (file.stat().st_mode & 0o777, len(file.read_bytes())) == (0o600, 32)
    assert [path.name for path in file.parent.iterdir()] == ["monitor.key"]


def test_a_renewed_or_cut_key_is_another(tmp_path: Path) -> None:
    first = monitor_key(tmp_path)
    renew_monitor_key(tmp_path)
    second = monitor_key(tmp_path)
    (tmp_path / "access" / "monitor.key").write_bytes(b"cut")
    assert len({first, second, monitor_key(tmp_path)}) == 3


def test_one_that_others_can_read_is_refused(tmp_path: Path) -> None:
    monitor_key(tmp_path)
    (tmp_path / "access" / "monitor.key").chmod(0o644)
    with pytest.raises(NotAllowed, match="can be read by other accounts"):
        monitor_key(tmp_path)
