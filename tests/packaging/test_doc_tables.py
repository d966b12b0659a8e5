"""The tables in docs/ are those of the code."""

from __future__ import annotations

import doc_tables
import pytest


def test_every_table_stands_on_one_page():
    """None is missing, none stands twice, and none is unknown to `make tables`."""
    assert {name: len(texts) for name, texts in doc_tables.written().items()} == dict.fromkeys(
        doc_tables.TABLES, 1
    )


@pytest.mark.parametrize("name", doc_tables.TABLES)
def test_the_table_is_current(name):
    """It is what the code says now; if not, run `make tables`."""
    assert doc_tables.written()[name] == [doc_tables.TABLES[name]()], "stale: run `make tables`"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("settings", "| `max_concurrent` | integer ≥ 1 | `128` |"),
        ("commands", "| [`s3lora config check`](#s3lora-config-check) |"),
        ("options", "### s3lora-mcp\n"),
        ("exit-codes", "| 0 | 1 | 2 | 3 | 130 |"),
        ("routes", "| `POST /admin/planners/{name}/swap` | admin |"),
        ("errors", "| `revision_mismatch` | 409 | 1 |"),
        ("clients", "| openai (JavaScript) |"),
        ("exam-power", "| 200 | 1 / 96 / 3 |"),
        ("adapters", "| GPT-2 | GPT2LMHeadModel | refused: no LoRA in its class | not tried |"),
    ],
)
def test_a_table_has_what_it_is_read_for(name, rows):
    """A generator that finds nothing, or reads another place, would agree with itself."""
    assert rows in doc_tables.TABLES[name]()
