"""One rule of which hosts are only this machine, for every caller."""

from __future__ import annotations

import pytest

from planners.client.asking import Endpoint
from planners.loopback import is_loopback
from s3lora_serve.cli.fleet.access import Access
from s3lora_serve.config import ServerConfig
from s3lora_serve.errors import ConfigError
from s3lora_serve.server.access.auth import check_binding

HERE = ["localhost", "LOCALHOST", "localhost.", "planner.localhost", "127.0.0.1", "127.8.9.10", "::1"]
HERE += ["[::1]", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"]
ELSEWHERE = ["", "0.0.0.0", "::", "128.0.0.1", "::2", "::ffff:8.8.8.8", "localhost.example", "notlocalhost"]
ELSEWHERE += [
    "127.0.0.1.example",
    "127.1",
    "2130706433",
    "0x7f.1",
    "[127.0.0.1",
    "fe80::1%lo",
    "planner.example",
]


@pytest.mark.parametrize(("hosts", "expected"), [(HERE, True), (ELSEWHERE, False)], ids=["here", "elsewhere"])
def test_addresses_are_compared_as_addresses(hosts, expected):
    """Names by RFC 6761, addresses by value; spellings that only some resolvers know are not trusted."""
    assert [host for host in hosts if is_loopback(host) is not expected] == []


@pytest.mark.parametrize("host", [*HERE, *ELSEWHERE])
def test_every_part_has_the_same_opinion(host):
    """The listener, its settings, the fake engine, the command line and the client agree on each host."""
    said = {is_loopback(host), _accepts(lambda: check_binding(host, None))}
    said.add(_accepts(lambda: ServerConfig(host=host).keys({})))
    if "[127" not in host:  # no URL
        name = host if ":" not in host or host.startswith("[") else f"[{host}]"
        url = f"http://{name or 'nowhere'}:8000"
        said |= {Access(url, "", "").local, Endpoint(url, None).local}
    assert said == {is_loopback(host)}


def _accepts(ask):
    try:
        ask()
    except ConfigError:
        return False
    return True
