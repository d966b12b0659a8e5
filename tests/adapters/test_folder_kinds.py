"""Every kind of adapter folder has the outcome that the table says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from adapters_factory import adapter_limits
from folder_kinds import FOLDER_KINDS, FolderKind
from peft_builder import BASE

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.errors import AdapterError
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", FOLDER_KINDS, ids=lambda kind: kind.what)
def test_a_kind_is_served_or_refused_as_the_table_says(kind: FolderKind, tmp_path: Path):
    """Served, with its note, or refused for its cause and with a next step."""
    source, store = kind.make(tmp_path / "adapter"), RevisionStore(tmp_path / "store")

    def put():
        policy = PrunePolicy(rule=Top(3))
        return admit(str(source), base=BASE, policy=policy, limits=adapter_limits(), store=store).lineage

    if kind.refused:
        with pytest.raises(AdapterError) as caught:
            put()
        assert kind.refused in caught.value.message
        assert caught.value.hint
        assert kind.why
        assert store.list() == ()
    else:
        lineage = put()
        assert lineage.kept
        assert (
            any(kind.note in warning for warning in lineage.warnings) if kind.note else not lineage.warnings
        )


def test_each_kind_stands_once():
    """The page has a row for each."""
    names = [kind.what for kind in FOLDER_KINDS]
    assert len(set(names)) == len(names) >= 20
