"""Connection files: found by name, private, and masked wherever they are shown."""

from __future__ import annotations

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
