"""A source is parsed once: what may hold a secret is refused, or left out of all that is written down."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.adapters.fetch.address import Source, hub_address, redacted
from s3lora_serve.errors import SourceError

SIGNED = "https://host/a/b?sig=s3cr%40t-signature&se=2026"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a/b", "/a/b"),
        ("./a::b?c#d", "./a::b?c#d"),
        ("file:///a/b", "file:///a/b"),
        ("demo://hotpot-planner", "demo://hotpot-planner"),
        ("hf://org/name@main/sub", "hf://org/name@main/sub"),
        ("s3://bucket/a", "s3://bucket/a"),
        (
            "abfs://container@account.dfs.core.windows.net/a",
            "abfs://container@account.dfs.core.windows.net/a",
        ),
        (SIGNED, "https://host/a/b"),
        ("http://[::1]:8080/a?x=secret", "http://[::1]:8080/a"),
        ("zip://in/side::https://host/a.zip?sig=secret", "zip://in/side::https://host/a.zip"),
        ("tar://::/a/b.tar", "tar://::/a/b.tar"),
        ("zip://in::http://[::1]/a.zip", "zip://in::http://[::1]/a.zip"),
    ],
)
def test_sources_are_shown_without_their_query(text: str, shown: str):
    """As text and in ``repr``, too; only what was left out is noted, as a digest."""
    source = Source.parse(text)
    assert str(source) == shown
    assert "s3cr" not in repr(source)
    told = {"source": shown}
    if shown != text:
        told["source_digest"] = hashlib.sha256(text.encode()).hexdigest()
    assert source.to_json() == told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://user:PASSWORD@host/a", "https://host/a: a source must not hold a user or a password"),
        ("https://PASSWORD@host/a", "https://host/a: a source must not hold a user"),
        ("s3://AKIA:PASSWORD@bucket/a", "s3://bucket/a: a source must not hold a user"),
        ("zip://in::s3://u:PASSWORD@bucket/a.zip", "s3://bucket/a.zip: a source must not hold a user"),
        ("abfs://container:PASSWORD@account/a", "abfs://account/a: a source must not hold a user"),
        ("hf://PASSWORD@org/name", "hf://org/name: a source must not hold a user"),
        ("https://user:PASS/WORD@host/a", "its host cannot be told from its path"),
        ("https://user:12?PASSWORD@host/a", "its host cannot be told from its path"),
        ("https://user:PASSWORD", "is no port"),
        ("https://host/a#PASSWORD", "https://host/a: a fragment (#…) means nothing"),
        ("s3://bucket/a?PASSWORD", "s3://bucket/a: only http:// and https:// take a query"),
        ("webhdfs://PASSWORD/a", "webhdfs:// is not read: sources are a folder, demo://, hf://, s3://"),
        ("simplecache::s3://PASSWORD/a", "simplecache:// is not read"),
        ("filecache://x::s3://PASSWORD/a", "filecache:// is not read"),
        ("zip://a::simplecache::s3://PASSWORD/a", "zip::simplecache:// is not read"),
        ("ftp://PASSWORD/a", "ftp:// is not read"),
        ("ssh://PASSWORD/a", "ssh:// is not read"),
        ("github://org:repo@PASSWORD/", "github:// is not read"),
        ("memory://PASSWORD", "memory:// is not read"),
        ("s3://bucket/x::https://PASSWORD/", "'::' in it"),
        ("zip://in::hf://org/name", "an archive is read from a file, a bucket or http(s), not from hf://"),
        (" https://user:PASSWORD@host/a", "an address begins with its driver"),
        ("x/https://user:PASSWORD@host/a", "no path has '://' in it"),
        ("s3://bucket:443/PASSWORD", "names no bucket, or has a port"),
        ("file://PASSWORD/a", "names no absolute path"),
        ("https://host/a/%2e%2e/b", "'.' and '..' name no folder"),
        ("s3://bucket/a/../b", "'.' and '..' name no folder"),
        ("zip://../a::/b.zip", "'.' and '..' name no folder"),
        ("https:///a", "it has no host"),
        ("https://ho st/a", "it has no host"),
        ("http://[fe80::1%25eth0]/a", "it has no host"),
        ("http://::1/a", "stands in brackets"),
        ("https:/user:PASSWORD@host/a", "https:… is no address"),
        ("S3:PASSWORD", "S3:… is no address"),
    ],
)
def test_sources_are_refused_by_their_text(text: str, message: str):
    """With a password, by a driver that is not on the list, or where another folder could be meant."""
    with pytest.raises(SourceError) as caught:
        Source.parse(text)
    assert message in str(caught.value)
    assert "PASS" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_refused_password_has_a_way_out():
    """Each driver's own."""
    for source, way in [("s3", "AWS_"), ("hf", "HF_TOKEN"), ("https", "~/.netrc"), ("gs", "GOOGLE_")]:
        with pytest.raises(SourceError) as caught:
            Source.parse(f"{source}://user:pw@org/name")
        assert way in caught.value.hint


@pytest.mark.parametrize("before", ["", " ", "(", "simplecache::", "x/", "see: "])
def test_what_stands_before_an_address_does_not_hide_it(before: str):
    """Of what was stored, or quoted by others."""
    assert "SECRET" not in redacted(f"{before}https://me:SECRET@host/a?sig=SECRET")


@given(
    st.text("abc/?#:[]@%"), st.text("/abc?#@"), st.sampled_from(["https", "s3", "ftp", "hf", "zip://x::http"])
)
def test_no_password_gets_through(password: str, path: str, scheme: str):
    """Neither parsed nor quoted, whatever ends an address in it."""
    text = f"{scheme}://me:{password}SECRET@host/{path}"
    assert "SECRET" not in redacted(text)
    try:
        shown = str(Source.parse(text))
    except SourceError as error:
        shown = str(error)
    assert "SECRET" not in shown


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (
            "cannot open https://host/a/b/x.json?sig=s3cr%40t-signature&se=2026 now",
            "cannot open https://host/a/b/x.json now",
        ),
        ("bad value s3cr%40t-signature", "bad value ***"),
        ("bad value 's3cr@t-signature'", "bad value '***'"),
        ("of 2026, no word is replaced", "of 2026, no word is replaced"),
        ("at zip://x::https://o:pw@other/y?z=1", "at zip://x::https://other/y"),
        ("Error in folder of o", "Error in folder of o"),
    ],
)
def test_what_drivers_quote_is_redacted_by_parsing(said: str, left: str):
    """Addresses lose their secrets, long values are replaced in both spellings, words stay."""
    assert Source.parse(SIGNED).hidden_in(said) == left


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://huggingface.co/acme/planner-lora", "hf://acme/planner-lora"),
        ("https://huggingface.co/acme/planner-lora/", "hf://acme/planner-lora"),
        ("https://HuggingFace.co/models/acme/planner-lora", "hf://acme/planner-lora"),
        ("http://hf.co/acme/planner-lora/tree/main", "hf://acme/planner-lora@main"),
        ("https://huggingface.co/acme/p/tree/v1.0/in/side", "hf://acme/p@v1.0/in/side"),
        ("https://huggingface.co/acme/p/resolve/main/", "hf://acme/p@main"),
        ("https://huggingface.co/acme/p/blob/main/in/adapter_model.safetensors", "hf://acme/p@main/in"),
        ("https://huggingface.co/acme/p?library=peft", "hf://acme/p"),
        ("https://huggingface.co/datasets/acme/p", "hf://org/name"),
        ("https://huggingface.co/acme", "hf://org/name"),
    ],
)
def test_a_page_of_the_hub_gets_the_address_that_is_meant(given: str, meant: str):
    """What a browser shows is no folder of files; nothing is asked of a server to say so."""
    with pytest.raises(SourceError, match="is a page of the Hub, not a folder of files") as caught:
        Source.parse(given)
    assert caught.value.hint == f"write {meant}"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("acme/planner-lora", "hf://acme/planner-lora"),
        ("huggingface.co/acme/planner-lora", "hf://acme/planner-lora"),
        ("/srv/a", None),
        ("./a/b", None),
        ("~/a/b", None),
        ("a/b/c", None),
        ("a", None),
    ],
)
def test_a_bare_name_may_be_one_of_the_hub(text: str, meant: str | None):
    """Where no folder is; a path never is one."""
    assert hub_address(text) == meant
