"""Random plans: any text that a plan can hold, valid ones and any at all."""

from hypothesis import strategies as st

from planners import Plan, PlanStep

TOOLS = ("Search", "LLM", "do_math")
# What may stand in a line: no control characters, line breaks or square brackets.
_CHARS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="[]#")
lines = st.text(_CHARS, min_size=1, max_size=40).map(str.strip).filter(bool)


@st.composite
def steps(draw, number: int, known: int) -> PlanStep:
    """Step ``number``, which refers to some of ``#E1`` to ``#E{known}``."""
    words = draw(st.lists(lines, min_size=1, max_size=3))
    refs = draw(st.lists(st.integers(1, known), max_size=3)) if known else []
    text = " ".join([*words, *(f"#E{n}" for n in refs)])
    return PlanStep(id=f"#E{number}", thought=draw(lines), tool=draw(st.sampled_from(TOOLS)), tool_input=text)


@st.composite
def valid_plans(draw, max_steps: int = 14) -> Plan:
    """Plans without problems, often with more than nine steps."""
    count = draw(st.integers(1, max_steps))
    return Plan(steps=tuple(draw(steps(number=n, known=n - 1)) for n in range(1, count + 1)))


@st.composite
def any_plans(draw) -> Plan:
    """Plans with whatever ids and references."""
    numbers = draw(st.lists(st.integers(1, 12), max_size=6))
    return Plan(steps=tuple(draw(steps(number=n, known=12)) for n in numbers))
