"""Ports: free ones, the same ones as last time when possible, and never one twice."""

import random
import socket

import pytest

from deploy.embedded.ports import LOOPBACK, choose_ports, free_port, is_free


def test_a_port_in_use_is_not_free() -> None:
    """A listening server is noticed."""
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        assert not is_free(server.getsockname()[1])


def test_a_remembered_port_is_kept_when_it_is_free() -> None:
    """A restart answers where the last one did."""
    assert choose_ports(["a"], {"a": 23_456}, free=lambda _port: True) == {"a": 23_456}


def test_a_remembered_port_that_was_taken_is_replaced() -> None:
    """A stranger on last time's port does not keep the stack from starting."""
    assert choose_ports(["a"], {"a": 23_456}, free=lambda port: port != 23_456)["a"] != 23_456


def test_two_names_never_share_a_port() -> None:
    """A file in which somebody wrote one port twice is healed."""
    ports = choose_ports(["a", "b"], {"a": 23_456, "b": 23_456}, free=lambda _port: True)
    assert ports["a"] == 23_456 != ports["b"]


def test_the_search_for_a_port_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a free port is told so instead of searched for ever."""
    monkeypatch.setattr("deploy.embedded.ports.is_free", lambda _port: False)
    with pytest.raises(OSError, match="no free port"):
        free_port(random.Random(1))
