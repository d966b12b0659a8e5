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
    ],
)
def test_sources_are_shown_without_paths_or_secrets(source, shown):
    """A local folder shows its name only; an address loses user, password and query string."""
    assert public_source(source) == shown
