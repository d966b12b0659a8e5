"""What leaves the server holds none of its paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.server.redact import public_source, redactor

REDACT = redactor(lambda: [Path("/data/my store/revisions/abc"), Path("/data/my store")])


@pytest.mark.parametrize(
    ("said", "leaves"),
    [
        ("could not load from /data/my store/revisions/abc: gone", "could not load from <path>: gone"),
        ("no /data/my store/revisions/abc/adapter_model.safetensors", "no <path>"),
        ("open '/srv/x/y.bin' failed", "open '<path>' failed"),
        ('File "/usr/lib/python3/x.py", line 3', 'File "<path>", line 3'),
        ("path=/srv/x", "path=<path>"),
        ("see file:///srv/x/y", "see <path>"),
        ("see ~/models/x and ./y/z and ../w", "see <path> and <path> and <path>"),
        ("(/opt/a, /opt/b)", "(<path>, <path>)"),
    ],
)
def test_paths_are_taken_out(said, leaves):
    """Absolute and relative paths go, also in quotes and brackets; known roots also with spaces in them."""
    assert REDACT(said) == leaves


@pytest.mark.parametrize(
    "said",
    [
        "use POST /v1/plans or GET /v1/planners",
        "send application/json, not text/plain",
        "hf://org/name@main",
        "https://example.org/a/b",
        "3/4 of the modules, and/or none; q = 1 / 2",
        "rank 24 > max_lora_rank 16; raise engine.max_lora_rank",
        "",
    ],
)
def test_what_is_no_path_stays(said):
    """Our own routes, media types, addresses and fractions are left as they are."""
    assert REDACT(said) == said


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=8).filter(
    lambda n: n not in ("v1", "livez", "readyz", "metrics", ".", "..")
)


@given(
    before=st.sampled_from(["", "at ", "'", '"', "(", "=", "[", "\n", "path: "]),
    parts=st.lists(NAMES, min_size=2),
)
def test_no_part_of_a_path_is_left(before, parts):
    """Of an absolute path after a space, quote, bracket or equals sign, nothing remains."""
    assert REDACT(f"{before}/{'/'.join(parts)}") == f"{before}<path>"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/home/me/adapters/hotpot", "local:hotpot"),
        ("./hotpot", "local:hotpot"),
        ("file:///home/me/adapters/hotpot", "local:hotpot"),
        ("demo://hotpot", "demo://hotpot"),
        ("hf://org/name@abc123", "hf://org/name@abc123"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("https://user:secret@example.org/a/b?X-Amz-Signature=secret#f", "https://example.org/a/b"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        ("https://user:se/cret@example.org/a", "https://<unreadable>"),
        ("https://user:12/cret@example.org/a", "https://<unreadable>"),
        ("hf://token@org/name", "hf://org/name"),
        ("hf://name@abc123", "hf://name@abc123"),
        ("simplecache::s3://user:secret@bucket/a", "s3://bucket/a"),
        ("zip://a.zip::file:///home/me/b.zip", "local:b.zip"),
        ("zip://a.zip::/home/me/b.zip", "local:b.zip"),
        ("FILE:///home/me/b", "local:b"),
        ("memory:///home/me/b", "memory:b"),
        ("/home/me/x://y/z", "local:z"),
        ("demo://x[", "demo://x["),
        ("https://[::1/a", "https://<unreadable>"),
        ("demo://a\n\x1b[31m\x00\u202e\ud800", r"demo://a\n\x1b[31m\x00\u202e\ud800"),
        ("", "local:"),
        (" https://user:secret@example.org", "local:example.org"),
    ],
)
def test_sources_are_shown_without_paths_or_secrets(source, shown):
    """A local folder shows its name only; an address loses user, password and query string."""
    assert public_source(source) == shown


@given(
    st.text(alphabet=st.one_of(st.sampled_from("[]:/@?#%\\\x00\n\x1b\u202e"), st.characters()))
    | st.text("[]:/@?#.x1").map("http://{}".format)
)
def test_every_source_can_be_shown(source):
    """Whatever was stored: nothing is raised, and what is shown is UTF-8 on one line."""
    shown = public_source(source)
    assert (len(shown.splitlines()), [c for c in shown if ord(c) < 32]) == (1, [])
    shown.encode()


@given(
    st.sampled_from(["https", "s3", "ftp", "hf", "x+y"]),
    st.text("abc/?#:[]@"),
    st.text("/abc?#@"),
)
def test_no_password_is_shown(scheme, password, path):
    """A password may hold what ends the address in an URL."""
    assert "SECRET" not in public_source(f"{scheme}://me:{password}SECRET@host/{path}")
