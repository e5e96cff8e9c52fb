"""Under which names a server answers: not under one that a page in somebody's browser chose."""

from __future__ import annotations

import socket

import pytest

from dominus.orchestrator.net.hosts import AllowedHosts


@pytest.mark.parametrize(
    ("header", "is_allowed"),
    [
        ("localhost", True),
        ("LocalHost.:8700", True),
        ("dev.localhost:80", True),
        ("127.0.0.1:8700", True),
        ("[::1]:8700", True),
        ("[::1]", True),
        ("192.0.2.7", True),
        ("box.example", True),
        ("extra.example:1", True),
        (socket.gethostname(), True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:8700", False),
        ("127.0.0.1.evil.example", False),
        ("evillocalhost", False),
        ("", True),
        ("[evil.example]", False),
        ("user@localhost", False),
    ],
)
def test_a_name_that_is_not_the_servers_own_is_refused(header: str, is_allowed: bool) -> None:
    assert AllowedHosts.of("box.example", "extra.example, other.example")(header) is is_allowed


def test_all_names_can_be_allowed() -> None:
    assert AllowedHosts.of("127.0.0.1", "*")("evil.example")
