"""What a server may read: by path component, by where links lead; refusals tell nothing of what is there."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from s3lora_serve.adapters.fetch import reach as reach_file
from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.adapters.fetch.reach import EVERYWHERE, Reach
from s3lora_serve.adapters.fetch.sources import fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import SourceError, SourceNotAllowed

if TYPE_CHECKING:
    from pathlib import Path


def allows(reach: Reach, source: str) -> bool:
    """Whether the source may be read."""
    try:
        reach.check(Source.parse(source))
    except SourceNotAllowed:
        return False
    return True


def named(*entries: str) -> Reach:
    """As ``sources.allow`` names them."""
    return Reach(tuple(Source.parse(entry).place for entry in entries))


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("/data/adapters", True),
        ("/data/adapters/a", True),
        ("file:///data/adapters/a", True),
        ("/data/adapters/x/../a", True),
        ("zip://in::/data/adapters/a.zip", True),
        ("/data/adapters2", False),
        ("/data", False),
        ("/data/adapters/../other", False),
        ("zip://in::/data/a.zip", False),
        ("s3://bucket/team", True),
        ("s3://bucket/team/a", True),
        ("zip://::s3://bucket/team/a.zip", True),
        ("s3://bucket/team2", False),
        ("s3://bucket2/team", False),
        ("gs://bucket/team", False),
        ("https://host/a?sig=x", True),
        ("https://HOST:443//b", True),
        ("http://host/a", False),
        ("https://host:8443/a", False),
        ("https://host.evil/a", False),
        ("https://sub.host/a", False),
        ("http://[0:0::1]:9000/a", True),
        ("http://[::1]:9001/a", False),
        ("demo://hotpot-planner", True),
        ("hf://org/name", True),
    ],
)
def test_places_are_compared_by_their_parts(source: str, allowed: bool):
    """Host and port as a whole, folders by their names; the demo and the Hub always."""
    reach = named("/data/adapters", "s3://bucket/team", "https://host", "http://[::1]:9000")
    assert allows(reach, source) is allowed
    assert allows(Reach(anywhere=True), source)
    assert allows(EVERYWHERE, source)


def test_links_are_followed_before_they_are_compared(tmp_path: Path):
    """A link in an allowed folder does not lead out of it; an allowed folder may itself be a link."""
    (tmp_path / "real/a").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed").symlink_to(tmp_path / "real")
    (tmp_path / "real/out").symlink_to(tmp_path / "secret")
    (tmp_path / "real/circle").symlink_to(tmp_path / "real/circle")
    reach = named(str(tmp_path / "allowed"))
    assert allows(reach, str(tmp_path / "allowed/a"))
    assert allows(reach, str(tmp_path / "real/a"))
    for outside in ("allowed/out", "allowed/out/../a/../../secret", "real/out", "secret"):
        assert not allows(reach, str(tmp_path / outside)), outside
    assert not allows(reach, str(tmp_path / "allowed/a/../../secret"))
    with pytest.raises((SourceNotAllowed, SourceError)):
        fetch(str(tmp_path / "allowed/circle"), tmp_path / "copy", LimitsConfig(), reach=reach)


def test_a_refusal_does_not_tell_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same words for a folder, a file, a link and nothing; no file system call is made on any of them."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "allowed").mkdir()
    reach, told = named(str(tmp_path / "allowed")), set()
    looked: list[str] = []
    real = type(tmp_path).resolve
    monkeypatch.setattr(
        type(tmp_path), "resolve", lambda self, *a: (looked.append(self.name), real(self, *a))[1]
    )
    for name in ("folder", "file", "link", "gone"):
        with pytest.raises(SourceNotAllowed) as caught:
            reach.check(Source.parse(str(tmp_path / name)))
        told.add(str(caught.value).replace(name, "*"))
    assert told == {
        f"{tmp_path}/* is not among the sources that this server reads;"
        f" add the line '- {tmp_path}/*' under sources.allow in planners.yaml, and restart"
    }
    assert set(looked) == {"allowed"}


def test_a_link_that_changed_after_the_check_is_not_followed(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is read is where the link leads when it is read, and that is compared again."""
    (tmp_path / "allowed/good").mkdir(parents=True)
    link = tmp_path / "allowed/link"
    link.symlink_to(tmp_path / "allowed/good")
    real = Reach.check

    def change(self: Reach, source: Source) -> None:
        real(self, source)
        if link.resolve() != adapter:
            link.unlink()
            link.symlink_to(adapter)

    monkeypatch.setattr(Reach, "check", change)
    with pytest.raises(SourceNotAllowed):
        fetch(str(link), tmp_path / "copy", LimitsConfig(), reach=named(str(tmp_path / "allowed")))
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("source", ["https://host:8443/team/a?sig=secret-value", "s3://bucket/a", "/srv/a"])
def test_the_line_to_add_makes_it_allowed(source: str):
    """Copied from the hint; it holds no signature."""
    with pytest.raises(SourceNotAllowed) as caught:
        Reach().check(Source.parse(source))
    assert "secret" not in str(caught.value)
    line = caught.value.hint.split("'")[1].removeprefix("- ")
    assert allows(named(line), source)


def test_planners_make_their_own_places_readable():
    """Their folder, or their whole bucket or host."""
    reach = Reach().also(
        "/data/a", "s3://bucket/a", "https://host/a/b?sig=x", "zip://x::/data/z.zip", "hf://o/n"
    )
    for source in ("/data/a/b", "s3://bucket/b", "https://host/c", "/data/z.zip"):
        assert allows(reach, source), source
    for source in ("/data", "s3://bucket2/b", "http://host/c"):
        assert not allows(reach, source), source


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::7f00:1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_special_addresses_must_be_named(address: str):
    """Whatever name led there, and however the address is wrapped; a command on one's own machine may."""
    place, ip = Source.parse("http://name/a").place, ip_address(address)
    for reach in (Reach(anywhere=True), named("http://name")):
        with pytest.raises(SourceNotAllowed):
            reach.check_address(place, ip)
    EVERYWHERE.check_address(place, ip)
    host = f"[{address}]" if ":" in address else address
    named("http://name", f"http://{host}").check_address(place, ip)
    with pytest.raises(SourceNotAllowed):
        named("http://name", f"http://{host}:8001").check_address(place, ip)


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "192.168.0.9", "fd12::1", "93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_a_host_that_is_named_may_be_in_a_private_network(address: str):
    """That is where stores of adapters usually are; one that is not named is not read at all."""
    named("http://name").check_address(Source.parse("http://name/a").place, ip_address(address))


def test_an_address_of_this_machine_must_be_named(monkeypatch: pytest.MonkeyPatch):
    """Its own listeners may be bound to it; the loopback ones are not the only way to them."""
    monkeypatch.setattr(reach_file, "_special", lambda ip: False)
    place = Source.parse("http://name/a").place
    with pytest.raises(SourceNotAllowed, match="inside this machine"):
        Reach(anywhere=True).check_address(place, ip_address("127.0.0.1"))
    Reach(anywhere=True).check_address(place, ip_address("93.184.216.34"))
