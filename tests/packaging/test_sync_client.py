"""The client for threads is the one for coroutines, without its awaits."""

from __future__ import annotations

import sync_client


def test_the_client_for_threads_is_made_of_the_other():
    """They can differ in nothing but what coroutines need; if the made one is stale, run `make clients`."""
    assert sync_client.MADE.read_text() == sync_client.text(), "stale: run `make clients`"
