"""Where a module stands in its model: its layer, its projection, and the order of projections."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def place_of(module: str) -> tuple[int, str]:
    """(layer, projection) of a dotted path: its first number and what follows it; layer -1 if it has none."""
    parts = module.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    return (-1, module) if at is None else (int(parts[at]), ".".join(parts[at + 1 :]) or module)


def in_model_order(places: Iterable[tuple[int, str]]) -> list[str]:
    """Projections as the layer with the most of them has them: the first layer may lack some."""
    by_layer: dict[int, list[str]] = defaultdict(list)
    for layer, projection in places:
        by_layer[layer].append(projection)
    fullest = max(by_layer.values(), key=len, default=[])
    return list(dict.fromkeys([*fullest, *(p for layer in by_layer.values() for p in layer)]))
