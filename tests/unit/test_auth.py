"""`dominus.auth` and `as_user`, as users meet them."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MakeRig

from dominus.errors import AuthenticationError
from dominus.testing import ok


async def test_a_minted_token_has_one_name_whatever_the_server_calls_it(make_rig: MakeRig):
    rig = make_rig(ok({"token": "a.b.c", "expires_in": 900}), is_foreign=True)
    minted = await rig.client.auth.mint_jwt("user-1")
    assert minted["access_token"] == "a.b.c"


@pytest.mark.parametrize("token", ["", " ", "Bearer a.b.c", "a.b.c\n", "\u00e9", None, 5, b"a.b.c"])
async def test_a_user_token_that_cannot_be_one_never_becomes_the_service(make_rig: MakeRig, token: Any):
    with pytest.raises(AuthenticationError, match=r"as_user.*without `Bearer`"):
        make_rig().client.as_user(token)
