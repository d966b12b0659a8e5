"""Plans add up while they stream."""

from hypothesis import given
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from langchain_core.runnables.utils import add
from plan_strategies import valid_plans

from planners import Plan, PlanMeta

META = PlanMeta(planner="p", revision="r", base_model="b")
LATER = PlanMeta(planner="p", revision="r", base_model="b", repairs=1)
EMPTY = Plan(steps=())


def chunks_of(plan: Plan) -> list[Plan]:
    """How a plan streams: one step a chunk, the meta in a last one without steps."""
    return [*(Plan(steps=(step,)) for step in plan.steps), Plan(steps=(), meta=META)]


@given(valid_plans())
def test_chunks_add_up_to_the_plan(plan):
    """sum() and LangChain's addition of chunks give the plan with its meta."""
    whole = Plan(steps=plan.steps, meta=META)
    assert sum(chunks_of(plan)) == add(chunks_of(plan)) == whole


@given(valid_plans(max_steps=3), valid_plans(max_steps=3), valid_plans(max_steps=3))
def test_addition_is_associative(one, two, three):
    """However chunks are grouped on their way, the sum is the same; an empty plan changes nothing."""
    assert (one + two) + three == one + (two + three)
    assert one + EMPTY == EMPTY + one == one


def test_the_last_meta_counts():
    """What is said later of the same plan replaces what was said before; nothing said replaces nothing."""
    first, second = Plan(steps=(), meta=META), Plan(steps=(), meta=LATER)
    assert [(first + second).meta, (first + EMPTY).meta, (EMPTY + first).meta] == [LATER, META, META]


def test_only_plans_can_be_added():
    """A plan and something else do not add up, rather than to something surprising."""
    for other in (None, "x", 1, ()):
        assert Plan.__add__(EMPTY, other) is NotImplemented
        assert Plan.__radd__(EMPTY, other) is NotImplemented


@given(valid_plans(max_steps=4))
def test_a_sequence_hands_the_whole_plan_on(plan):
    """A step of a RunnableSequence that cannot stream gets the chunks of the one before as one plan."""

    def streaming(_):
        yield from chunks_of(plan)

    sequence = RunnableGenerator(streaming) | RunnableLambda(lambda whole: whole)
    assert list(sequence.stream(0)) == [Plan(steps=plan.steps, meta=META)]
