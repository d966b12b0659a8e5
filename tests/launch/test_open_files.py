"""A burst of connections needs more open files than the usual soft limit."""

from __future__ import annotations

import resource

import pytest

from s3lora_serve.config import ServerConfig
from s3lora_serve.launch.resolve import to_http_limits
from s3lora_serve.launch.sockets import room_for_connections


@pytest.fixture
def files():
    """The limits of this process, as they were afterwards."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limits
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_soft_limit_is_raised_as_far_as_the_system_allows(files):
    """Up to the hard limit, or 65,536 where that is higher; the hard limit stays as it is."""
    _, hard = files
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    room_for_connections()
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)


def test_a_limit_that_is_higher_is_left_alone(files, monkeypatch):
    """Nothing is lowered."""
    monkeypatch.setattr("s3lora_serve.launch.sockets._MOST_FILES", 256)
    room_for_connections()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == files


@pytest.mark.parametrize(("room", "clients", "operators"), [(65_280, 2048, 256), (768, 576, 192), (4, 3, 1)])
def test_neither_listener_can_take_the_connections_of_the_other(room, clients, operators):
    """What both may have open is within what the system allows, however little that is."""
    limits = to_http_limits(ServerConfig(), room, lambda status, peer: None)
    assert [of.connections for of in limits] == [clients, operators]
    assert clients + operators <= room
