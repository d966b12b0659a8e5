"""What is right in a planners.yaml that has mistakes, so that checks find the others in the same round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from s3lora_serve.config.load_problems import Loc
from s3lora_serve.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

_ROUNDS = 20  # each takes out at least one mistake; a file with more has enough to mend
# In the place of what must be there: valid, and looked at by nothing.
_STAND_INS: Mapping[str, Any] = {
    "base_model": "demo",
    "planners": {"stand-in": {"source": "demo://hotpot-planner"}},
}


def sound_parts(
    data: Mapping[str, Any], error: ValidationError
) -> tuple[Config | None, list[Loc], list[tuple[Loc, str | ErrorDetails]]]:
    """The settings without those that ``error`` names, the places that were taken out, and further problems.

    Further are those that show only without the first: of rules that compare settings. None if nothing is
    left that could be read.
    """
    kept, gone = _copied(data), list[Loc]()
    more: list[tuple[Loc, str | ErrorDetails]] = []
    found = error.errors()
    for _ in range(_ROUNDS):
        for problem in found:
            loc = tuple(problem["loc"])
            if not any(loc[: len(place)] == place for place in gone):  # else it went with another one
                gone.append(_take_out(kept, loc))
        try:
            return Config.model_validate(kept), gone, more
        except ValidationError as again:
            found = again.errors()
            more += [(tuple(e["loc"]), e) for e in found if not touches(tuple(e["loc"]), gone)]
    return None, gone, more


def touches(loc: Loc, gone: Sequence[Loc]) -> bool:
    """Whether a problem is about what was taken out, or about what stands in for it."""
    stand_in = loc[:2] == ("planners", "stand-in")
    return stand_in or any(loc[: len(place)] == place or place[: len(loc)] == loc for place in gone)


def _take_out(kept: dict[str, Any], loc: Loc) -> Loc:
    """Take out what stands at ``loc``, or what it is missing in; the place of what was taken out."""
    at: Any = kept
    path: list[tuple[Any, int | str]] = []
    for part in loc:
        if isinstance(at, dict) and part in at:
            path.append((at, part))
            at = at[part]
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            break  # a list without one of its entries has other entries at their places
        else:
            break
    if not path:  # missing at the top, or about the file as a whole
        top = str(loc[0]) if loc else "planners"
        kept[top] = _copied(_STAND_INS.get(top, {}))
        return (top,)
    holder, name = path[-1]
    del holder[name]
    place = tuple(part for _, part in path)
    if place[0] in _STAND_INS and not kept.get(str(place[0])):
        kept[str(place[0])] = _copied(_STAND_INS[str(place[0])])
    return place


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value
