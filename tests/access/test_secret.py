"""A secret is shown by nothing but `reveal`."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from nblb.access.secret import Secret


def test_nothing_shows_it() -> None:
    secret = Secret("very-secret")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret]), repr({"key": secret})]
    assert not any("very" in text for text in shown)
    assert secret.reveal() == "very-secret"
    assert secret == Secret("very-secret")
    assert secret != Secret("other")
    for call in (pickle.dumps, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            call(secret)


def test_a_traceback_with_locals_does_not_show_it() -> None:
    def fail(secret: Secret) -> None:
        raise ValueError(f"with {secret}")

    try:
        fail(Secret("very-secret"))
    except ValueError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "(secret)" in text
    assert "very" not in text.replace("very-secret", "", 0).split('fail(Secret("very-secret"))')[-1]
