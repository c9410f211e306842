"""Connection files: found by name, private, and masked wherever they are shown."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nblb.access import connection_file
from nblb.access.connection_file import ConnectionFile
from nblb.access.secret import Secret
from nblb.errors import NotAllowed, ParametersError
from nblb.parameters import load


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def made(role: str = "user", host: str = "192.0.2.9", cluster: str = "lab") -> ConnectionFile:
    file = ConnectionFile(cluster, role, "anna", host, 9010, 9011, "k" * 40, "p" * 40, Secret("s" * 40))  # type: ignore[arg-type]
    return file.save(connection_file.path_of(cluster, role))


def test_there_and_back() -> None:
    file = made()
    assert connection_file.read(file.path) == file
    assert "s" * 40 not in repr(file)
    assert file.address() == f"tcp://192.0.2.9:9010#{file.path}"
    assert connection_file.split(file.address()) == ("tcp://192.0.2.9:9010", file.path)
    assert connection_file.split("tcp://h:1") == ("tcp://h:1", None)
    assert made("hub").address().startswith("tcp://192.0.2.9:9011#")


def test_found_by_name_and_by_host() -> None:
    person, hub = made(), made("hub")
    assert connection_file.known() == {"lab": person.path}
    assert connection_file.known("hub") == {"lab": hub.path}
    assert connection_file.named("lab", "hub") == hub.path
    assert connection_file.of_host("192.0.2.9") == person.path
    assert connection_file.of_host("192.0.2.9", "other") is None
    assert connection_file.of_host("192.0.2.8") is None
    with pytest.raises(ParametersError, match=r"not joined a cluster named 'nowhere' \(joined: lab\).*nblb join"):
        connection_file.named("nowhere")


def test_parameters_of_a_cluster_that_was_joined() -> None:
    file = made()
    for source in ("lab", str(file.path)):
        parameters = load(source)
        assert parameters.connection == str(file.path)
        assert (parameters.name, parameters.LB_IP, parameters.LB_CLIENTPULLPORT) == ("lab", "192.0.2.9", 9010)
        assert parameters.changed(LB_ON_INTERRUPT="kill").connection == str(file.path)
        assert "connection" not in parameters.as_dict()
    assert load("lab").runtime_dir != load({"LB_NAME": "lab"}).runtime_dir
    with pytest.raises(ParametersError, match=r"no cluster of that name \(joined: lab\).*nblb join"):
        load("nowhere")


def test_readable_by_others_is_refused() -> None:
    file = made()
    file.path.chmod(0o644)
    with pytest.raises(NotAllowed, match=r"can be read by other accounts \(mode 644\).*chmod 600"):
        connection_file.read(file.path)
    with pytest.raises(NotAllowed):
        load("lab")


@pytest.mark.parametrize("change", [('"nblb": 1', '"nblb": 2'), ('"role": "user"', '"role": "king"'), ("9010", '"x"'),
                                    ("9010", "99999"), ("s" * 40, "s"), ("{", "[")])  # fmt: skip
def test_other_files_are_refused(change: tuple[str, str]) -> None:
    path = made().path
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ParametersError, match="is not a connection file") as caught:
        connection_file.read(path)
    assert "s" * 40 not in str(caught.value)
    with pytest.raises(ParametersError, match="cannot be read as a connection file"):
        connection_file.read(path.with_name("missing.json"))


def test_of_several_for_one_core_the_named_then_the_newest_that_is_not_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old, new, other = made(), made(cluster="lab2"), made(cluster="elsewhere", host="192.0.2.8")
    for file, age in ((old, 1), (new, 2), (other, 3)):
        os.utime(file.path, (age, age))
    host = "192.0.2.9"
    assert connection_file.of_host(host) == new.path
    assert connection_file.of_host(host, "lab") == old.path
    new.note_refusal("it was revoked (laptop lost)")
    assert connection_file.read(new.path).refused == "it was revoked (laptop lost)"
    assert new.path.stat().st_mtime == 2, "its age stays"
    assert connection_file.of_host(host) == old.path
    assert "laptop lost" in caplog.text
    assert str(old.path) in caplog.text
    old.note_refusal("expired")
    assert connection_file.of_host(host) == new.path, "all are refused: the newest, whose refusal the caller gets"
    old.note_refusal("")
    assert [file.path for file in connection_file.all_of_host(host)] == [old.path, new.path]


def test_a_file_that_cannot_be_used_is_left_for_another() -> None:
    good, bad = made(), made(cluster="bad")
    bad.path.chmod(0o644)
    assert connection_file.of_host("192.0.2.9") == good.path
    good.path.unlink()
    with pytest.raises(NotAllowed, match="can be read by other accounts"):
        connection_file.of_host("192.0.2.9")


def test_a_refusal_is_not_written_into_a_file_with_another_key() -> None:
    file = made()
    joined_anew = replace(file, public_key="n" * 40).save(file.path)
    file.note_refusal("the old key was revoked")
    assert connection_file.read(file.path) == joined_anew
    file.path.unlink()
    file.note_refusal("gone")
    assert not file.path.exists()
