"""Tool lists to train with: names, descriptions and order vary, so that the planner reads its prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planners import ToolSpec

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from training.example import Role


@dataclass(frozen=True)
class Offer:
    """Tools of one prompt, and which of them plays which role in the plan."""

    tools: tuple[ToolSpec, ...]
    tool_of: Mapping[Role, str]


_NAMES: dict[Role, tuple[str, ...]] = {
    "lookup": (
        "Search",
        "Wikipedia",
        "Google",
        "WebSearch",
        "Lookup",
        "Browser",
        "Encyclopedia",
        "search_web",
        "Retrieve",
    ),
    "language": ("LLM", "Ask", "Reader", "Model", "Answer", "QA", "Reason", "answer_from_text"),
    "calculator": (
        "Calculator",
        "Calc",
        "Math",
        "Compute",
        "Arithmetic",
        "WolframAlpha",
        "Evaluate",
        "do_math",
    ),
}
_DESCRIPTIONS: dict[Role, tuple[str, ...]] = {
    "lookup": (
        "finds facts on the web",
        "looks up people, places and events",
        "searches an encyclopedia",
        "",
    ),
    "language": ("answers a question from the text it is given", "a language model that reads results", ""),
    "calculator": ("works out an arithmetic expression", "computes numbers", "+ - * / and brackets", ""),
}
_OTHERS = {
    "Weather": "forecast for a place",
    "Calendar": "shows and adds appointments",
    "Email": "sends a message",
    "Translate": "translates a text",
    "Python": "runs a program",
    "Map": "finds a route between two places",
    "Stocks": "price of a share",
    "Shop": "finds products and prices",
    "Notes": "stores a note",
    "News": "today's headlines",
}
# Never offered in training: shows whether the planner uses the names it is given.
_UNSEEN: dict[Role, tuple[str, str]] = {
    "lookup": ("KnowledgeBase", "finds facts about people and things"),
    "language": ("Assistant", "answers a question about a text"),
    "calculator": ("Abacus", "works out sums"),
}
_ROLES: dict[str, tuple[Role, ...]] = {"hotpot": ("lookup", "language"), "gsm8k": ("calculator",)}


def standard(data: str) -> Offer:
    """What the demo offers: Search and LLM, or Calculator."""
    return _offer({role: (_NAMES[role][0], _DESCRIPTIONS[role][0]) for role in _ROLES[data]}, {})


def unseen(data: str) -> Offer:
    """Names that no training example offers, beside one tool that no plan needs."""
    return _offer({role: _UNSEEN[role] for role in _ROLES[data]}, {"Timer": "waits for some minutes"})


def varied(data: str, rng: random.Random) -> Offer:
    """Tools of one training example: half the time the standard names, else drawn, like the rest."""
    roles = list(_ROLES[data])
    if "language" in roles and rng.random() < 0.15:
        roles.remove("language")
    usual = rng.random() < 0.5
    used = {
        role: (_NAMES[role][0] if usual else rng.choice(_NAMES[role]), rng.choice(_DESCRIPTIONS[role]))
        for role in roles
    }
    others = dict(_OTHERS)
    if data == "gsm8k":
        others |= {"Search": "finds facts on the web", "LLM": "answers a question from the text it is given"}
    else:
        others |= {"Calculator": "works out an arithmetic expression"}
    count = rng.choice((0, 0, 0, 1, 1, 2, 3))
    company = {name: others[name] for name in rng.sample(sorted(others), count)}
    offer = _offer(used, company)
    tools = list(offer.tools)
    rng.shuffle(tools)
    return Offer(tuple(tools), offer.tool_of)


def _offer(used: Mapping[Role, tuple[str, str]], company: Mapping[str, str]) -> Offer:
    named = [*used.values(), *company.items()]
    return Offer(
        tools=tuple(ToolSpec(name=name, description=text) for name, text in named),
        tool_of={role: name for role, (name, _) in used.items()},
    )
