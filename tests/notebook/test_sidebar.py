"""The sidebar without its package; tests/browser/test_lists.py looks at it in JupyterLab."""

from __future__ import annotations

import sys

import pytest

from nblb.errors import NblbError
from nblb.notebook import sidebar


def test_without_sidecar_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sidecar", None)
    with pytest.raises(NblbError, match="pip install sidecar"):
        sidebar.show()
