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


# JSON as arguments may hold it: any text that UTF-8 can hold, numbers that JSON has, nested.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS | st.integers(1, 120).map("#E{}".format),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def json_plans(draw) -> Plan:
    """Plans of any ids whose steps take JSON arguments or text."""
    numbers = draw(st.lists(st.integers(1, 120), min_size=1, max_size=6))
    made = []
    for n in numbers:
        if draw(st.booleans()):
            arguments = draw(st.dictionaries(_TEXTS, _VALUES, max_size=4))
            made.append(PlanStep(id=f"#E{n}", thought=draw(lines), tool="Lookup", arguments=arguments))
        else:
            made.append(draw(steps(number=n, known=120)))
    return Plan(steps=tuple(made))
