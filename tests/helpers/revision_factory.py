"""Admitted revisions for tests, without files or scoring."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.lineage import Lineage, Revision
from s3lora_serve.spectral.prune_policy import PrunePlan
from s3lora_serve.spectral.report import ModuleRow, SpectralReport

if TYPE_CHECKING:
    from collections.abc import Sequence

Q = "model.layers.{}.self_attn.q_proj"


def make_revision(
    path: Path = Path("/srv/my store/revisions/abc"),
    *,
    digest: str = "a" * 64,
    source: str = "/home/me/adapters/hotpot",
    modules: int = 3,
    pruned: Sequence[int] = (2,),
    warnings: tuple[str, ...] = (),
) -> Revision:
    """A revision with ``modules`` q_proj layers, of which those numbered in ``pruned`` were dropped."""
    names = [Q.format(layer) for layer in range(modules)]
    dropped = tuple(names[layer] for layer in pruned)
    rows = {
        name: ModuleRow(
            module=name,
            shape=(576, 576),
            rank=8,
            scaling=2.0,
            norm=1.5,
            ssi=0.2 + 0.1 * layer,
            score=0.2 + 0.1 * layer,
            sigma=(0.5, 0.25),
            inert=False,
        )
        for layer, name in enumerate(names)
    }
    lineage = Lineage(
        source=source,
        source_sha256="b" * 64,
        base_model="/srv/models/base",
        base_digest="c" * 64,
        policy={"scorer": "mas-svd", "rule": {"top": 1}, "action": "prune", "seed": 0},
        scorer="mas-svd",
        scorer_version="1",
        report=SpectralReport(scorer="mas-svd", version="1", rows=rows),
        plan=PrunePlan(pruned=dropped, reason="the highest score", abstained=False),
        action="prune",
        kept=modules - len(dropped),
        pruned=dropped,
        uniform_scaling=True,
        weights_sha256=digest,  # others for each, as in life
        weights_bytes=1234,
        config={"r": 8},
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        warnings=warnings,
    )
    return Revision(digest=digest, path=path, lineage=lineage)
