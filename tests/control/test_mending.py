"""Mending: the least pruning with which a refused revision passes, decided once and written down."""

from __future__ import annotations

import asyncio

import pytest
from fleet_factory import desired
from orders import ask, canary, order, rollback, serving, states, swap, until
from pruning_exams import PASSED, REFUSED, UNDECIDED, PruningExams, PruningShelf, result

from s3lora_serve.config import ExamConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.control.operation_summary import summary
from s3lora_serve.control.orders.mending import MENDED, NOT_MENDED
from s3lora_serve.errors import EngineDead

LEVEL = pytest.approx(0.05 / 5)
FIRST = (10, None, None)  # the policy's own revision, top 10, asked everything


def passes(*numbers):
    """What prunes as many of its modules as one of these passes, in whole and in halves."""
    return lambda pruned, half: result(PASSED if pruned in numbers else REFUSED)


@pytest.fixture
def mended(fleet_of, tmp_path):
    """``await mended(says)``: planner p serves 0, and under "bad" lies what is examined by ``says``."""

    async def start(says, *names, **options):
        shelf = PruningShelf(tmp_path / "shelf")
        settings = {name: options.pop(name) for name in set(options) & set(ExamConfig.model_fields)}
        for name in names or ("p",):
            shelf.put(name)
        exam = PruningExams(shelf, says, ExamConfig(**{"action": "mend", **settings}))
        fleet = fleet_of(*(names or ("p",)), shelf=shelf, exams=exam.setup, **options)
        fleet.exam = exam
        return await fleet.start()

    return start


def decisions(fleet, planner="p"):
    """The entries that tell of a ladder."""
    return [e for e in fleet.control.history(planner) if e.action in (MENDED, NOT_MENDED)]


def decision(fleet, action=MENDED, planner="p"):
    """The one that there is."""
    (entry,) = decisions(fleet, planner)
    assert entry.action == action
    return entry


def pruned(fleet, name="p"):
    """How many modules what serves lacks, and the policy that is recorded of it."""
    lineage = fleet.service.get(name).revision.lineage
    return len(lineage.pruned), lineage.policy.get("top")


async def test_the_least_rung_that_passes_serves(mended):
    """Rungs are 0, 5, 10, 20 and 30 % of 20 modules; each is refused by its first half, up to one that passes
    both: by the second at the level divided by the rungs."""
    fleet = await mended(passes(4, 6))
    done = await swap(fleet, "p", "bad")
    assert (done.step, done.error, pruned(fleet)) == (Step.DONE, None, (4, 4))
    rungs = [(0, 0, None), (1, 0, None), (2, 0, None), (4, 0, None), (4, 1, LEVEL)]
    assert fleet.exam.asked == [FIRST, *rungs]
    assert done.to_digest == fleet.service.get("p").revision.digest
    assert summary(done).endswith(" (mended: top 4)")
    assert len(await fleet.running.loaded()) == len(states(fleet, "p")) == 2  # what serves, and what did


async def test_the_decision_is_one_entry_with_every_rungs_counts(mended):
    """Who ordered it, from which revision to which, and each rung's share, number, verdict and counts."""
    fleet = await mended(passes(2))
    done = await swap(fleet, "p", "bad")
    entry = decision(fleet)
    assert (entry.actor, entry.operation, entry.to_digest) == ("alice", done.id, done.to_digest)
    assert entry.from_digest == fleet.shelf.revisions["bad 10"].digest
    rows = [(row["tau"], row["top"], row["verdict"]) for row in entry.details["rungs"]]
    assert rows == [(0.0, 0, "refused"), (0.05, 1, "refused"), (0.1, 2, "passed")]
    refused, chosen = entry.details["rungs"][0], entry.details["rungs"][2]
    assert refused["chosen"] == {"asked": 100, "both": 20, "risen": 30, "fallen": 0}
    assert (refused["confirmed"], chosen["confirmed"]["risen"]) == (None, 0)
    assert entry.details["level"] == LEVEL
    assert done.details["mending"] == {"p": dict(entry.details)}
    assert [finding for finding in await fleet.control.verify() if not finding.ok] == []


async def test_what_passes_is_not_mended(mended):
    """A revision that passes as its policy prunes it is served so; no rung is admitted."""
    fleet = await mended(passes(10))
    await swap(fleet, "p", "bad")
    assert (pruned(fleet), fleet.exam.asked, fleet.shelf.admitted) == ((10, 10), [FIRST], ["bad 10"])


async def test_no_rung_passes(mended):
    """The swap is refused with the table of rungs; what served serves, and nothing of it is loaded."""
    fleet = await mended(passes())
    before = await fleet.running.loaded()
    failed = await swap(fleet, "p", "bad")
    assert (failed.step, failed.error["code"]) == (Step.FAILED, "exam_refused")
    assert "top 6 (30 %): refused, it is refused" in failed.error["message"]
    table = failed.details["mending"]["p"]["rungs"]
    assert [(row["top"], row["verdict"]) for row in table] == [(n, "refused") for n in (0, 1, 2, 4, 6)]
    assert decision(fleet, NOT_MENDED).details["rungs"] == table
    assert (serving(fleet, "p"), await ask(fleet, "p"), states(fleet, "p")) == ("0", "0", {"0": "serving"})
    assert await fleet.running.loaded() == before
    assert failed.to_digest == fleet.shelf.revisions["bad 10"].digest


@pytest.mark.parametrize("action", ["refuse", "observe", "off"])
async def test_only_the_action_mend_mends(mended, action):
    """With another action a refused revision is what it is: refused, or observed."""
    fleet = await mended(passes(2), action=action)
    await swap(fleet, "p", "bad")
    assert fleet.shelf.admitted == ["bad 10"]
    assert not decisions(fleet)


async def test_what_is_undecided_is_held_and_not_mended(mended):
    """More pruning decides nothing about a revision of which the prompts say too little."""
    fleet = await mended(lambda pruned, half: result(UNDECIDED))
    failed = await swap(fleet, "p", "bad")
    assert (failed.error["code"], fleet.shelf.admitted) == ("exam_undecided", ["bad 10"])


@pytest.mark.parametrize(("undecided", "serves"), [("serve", 1), ("hold", 2)])
async def test_a_rung_that_is_not_confirmed_follows_undecided(mended, undecided, serves):
    """Where the half that chose nothing does not decide, ``undecided`` says whether the rung serves."""

    def says(number, half):
        if number == 1 and half == 1:
            return result(UNDECIDED)
        return result(PASSED if number in (1, 2) else REFUSED)

    fleet = await mended(says, undecided=undecided)
    await swap(fleet, "p", "bad")
    assert pruned(fleet) == (serves, serves)


async def test_what_chose_cannot_confirm(mended):
    """A rung that passes on the half that chooses and is refused on the other does not serve."""
    fleet = await mended(lambda pruned, half: result(REFUSED if half == 1 or half is None else PASSED))
    failed = await swap(fleet, "p", "bad")
    rows = failed.details["mending"]["p"]["rungs"]
    assert [row["verdict"] for row in rows] == ["refused"] * 5
    assert rows[0]["chosen"]["risen"] == 0
    assert rows[0]["confirmed"]["risen"] == 30


async def test_a_rung_keeps_its_utility_or_is_passed_over(mended):
    """A rung that lost a tenth of a figure of the unpruned adapter is refused, however safe it is."""

    def says(number, half):
        valid = {0: 0.9, 1: 0.7, 2: 0.85}.get(number, 0.1)
        return result(PASSED if number in (1, 2) else REFUSED, valid=valid)

    fleet = await mended(says)
    await swap(fleet, "p", "bad")
    assert pruned(fleet) == (2, 2)
    lost = decision(fleet).details["rungs"][1]
    assert (lost["verdict"], lost["utility"]) == (
        "refused",
        [
            {"name": name, "candidate": 0.7, "unpruned": 0.9, "reference": None}
            for name in ("valid", "rouge_l")
        ],
    )
    assert "22 % worse than the unpruned adapter's 0.9" in lost["why"]


async def test_it_abstains_where_the_ranking_carries_nothing(mended):
    """With an order of modules that was made up the revision stays refused, and the reason is said."""
    fleet = await mended(passes(2), taus=tuple(n / 100 for n in range(25)))
    failed = await swap(fleet, "p", "bad")
    assert "20 modules have a score, fewer than exam.taus has rungs (25)" in failed.error["message"]
    assert decision(fleet, NOT_MENDED).details["rungs"] == []
    assert fleet.shelf.admitted == ["bad 10"]


async def test_a_revision_of_the_store_is_not_mended(mended):
    """Rungs are made of a source; what is ordered by its digest is served as it is, or not."""
    fleet = await mended(passes(2))
    await swap(fleet, "p", "bad")
    digest = fleet.shelf.revisions["bad 10"].digest
    failed = await fleet.done(await fleet.control.swap("p", Wanted(revision=digest), order()))
    assert "served as it is; order its source" in failed.error["message"]
    assert pruned(fleet) == (2, 2)


async def test_the_same_order_again_asks_nothing_and_changes_nothing(mended):
    """Verdicts are kept by digest: the ladder comes to the same rung, which serves already."""
    fleet = await mended(passes(2))
    await swap(fleet, "p", "bad")
    asked, seen = list(fleet.exam.asked), fleet.service.get("p").generation
    again = await swap(fleet, "p", "bad")
    assert (again.step, again.details["same"], pruned(fleet)) == (Step.DONE, True, (2, 2))
    assert (fleet.exam.asked, fleet.service.get("p").generation) == (asked, seen)
    assert len(states(fleet, "p")) == 2


async def test_a_rung_that_does_nothing_is_passed_over(mended):
    """A pruning with which the adapter changes nothing is no way to serve it."""
    fleet = await mended(passes(1, 2))
    fleet.engine.no_effect("p@3*")  # 0 serves p, 1 is the policy's, 2 and 3 are the first two rungs
    await swap(fleet, "p", "bad")
    assert pruned(fleet) == (2, 2)
    assert "changes the log-probabilities" in decision(fleet).details["rungs"][1]["why"]


async def test_a_canary_is_mended_before_its_first_request(mended):
    """What is tried on a share of the requests is what passed."""
    fleet = await mended(passes(4))
    done = await canary(fleet, "p", "bad")
    assert done.step is Step.DONE
    candidate = fleet.service.get("p").candidate.revision
    assert (len(candidate.lineage.pruned), done.to_digest, serving(fleet, "p")) == (4, candidate.digest, "0")
    assert decision(fleet).to_digest == candidate.digest


async def test_a_rollback_works_as_always(mended):
    """It goes to what served before the mended one, and back to that, and asks nothing."""
    fleet = await mended(passes(4))
    await swap(fleet, "p", "bad")
    asked = list(fleet.exam.asked)
    assert (await rollback(fleet, "p")).step is Step.DONE
    assert (serving(fleet, "p"), await ask(fleet, "p")) == ("0", "0")
    await rollback(fleet, "p")
    assert (pruned(fleet), fleet.exam.asked) == ((4, 4), asked)


async def test_one_spare_slot_is_enough(mended):
    """With one slot beside what serves the rungs take turns in it."""
    fleet = await mended(passes(6), max_loras=2)
    assert (await swap(fleet, "p", "bad")).step is Step.DONE
    assert pruned(fleet) == (6, 6)


async def test_cancelled_in_the_middle(mended):
    """The old revision serves, nothing of the ladder stays loaded, and no decision is written down."""
    fleet = await mended(passes(6))
    before = await fleet.running.loaded()
    stays = asyncio.Event()

    def says(number, half):
        fleet.exam.stays = stays if number == 1 else None  # the next one, of 2 modules, stays
        return passes(6)(number, half)

    fleet.exam.says = says
    operation = await fleet.control.swap("p", Wanted(source="bad"), order())
    await until(lambda: (2, 0, None) in fleet.exam.asked)
    assert await ask(fleet, "p") == "0"
    cancelled = await fleet.control.cancel(operation.id, order())
    stays.set()
    assert cancelled.step is Step.CANCELLED
    await until(lambda: states(fleet, "p") == {"0": "serving"})
    await until(lambda: not fleet.service._loading._loads)
    assert (await fleet.running.loaded(), await ask(fleet, "p")) == (before, "0")
    assert not decisions(fleet)


async def test_the_engine_dies_in_the_middle(mended):
    """The swap has failed, the old revision comes back, and the next order goes on from what is known."""
    fleet = await mended(passes(6))

    def says(number, half):
        if number == 2:
            fleet.exam.says = passes(6)
            fleet.engine.die()
            raise EngineDead("it died")
        return passes(6)(number, half)

    fleet.exam.says = says
    failed = await swap(fleet, "p", "bad")
    assert (failed.step, failed.error["code"]) == (Step.FAILED, "engine_dead")
    await until(lambda: fleet.service.host.alive and fleet.service.host.restarts == 1)
    assert (states(fleet, "p"), await ask(fleet, "p")) == ({"0": "serving"}, "0")
    assert (await swap(fleet, "p", "bad")).step is Step.DONE
    assert pruned(fleet) == (6, 6)


# planners.yaml


def wants(fleet, **changes):
    """What is declared now, with changes."""
    names = fleet.service._fleet.names()
    return {**{name: fleet.service._fleet.alias(name).desired for name in names}, **changes}


async def apply(fleet, **changes):
    """Apply, and wait for the end."""
    return await fleet.done(await fleet.control.apply(wants(fleet, **changes), order()))


async def test_an_apply_mends_what_it_changes_and_adds(mended):
    """Both come to serve as they pass; the declaration stays that of the file."""
    fleet = await mended(passes(2))
    done = await apply(fleet, p=desired("bad"), q=desired("bad too"))
    assert (done.step, pruned(fleet, "p"), pruned(fleet, "q")) == (Step.DONE, (2, 2), (2, 2))
    assert set(done.details["mending"]) == {"p", "q"}
    records = fleet.service.journal.planners()
    assert records["p"].declared == desired("bad").declared


async def test_an_apply_of_the_unchanged_file_asks_and_changes_nothing(mended):
    """What is compared is what the file declares with what it declared, not with what mending made of it."""
    fleet = await mended(passes(2))
    await apply(fleet, p=desired("bad"))
    asked, seen, generation = len(fleet.exam.asked), len(fleet.seen), fleet.service.get("p").generation
    done = await apply(fleet, p=desired("bad"))
    assert (done.step, done.details["changes"]) == (Step.DONE, [])
    now = len(fleet.exam.asked), len(fleet.seen), fleet.service.get("p").generation
    assert (now, pruned(fleet)) == ((asked, seen, generation), (2, 2))


async def test_another_declaration_that_is_mended_into_what_serves(mended):
    """Only the declaration changes: no flip, nothing drains."""
    fleet = await mended(passes(2))
    await swap(fleet, "p", "bad")
    generation = fleet.service.get("p").generation
    done = await apply(fleet, p=desired("bad"))
    assert (done.step, pruned(fleet)) == (Step.DONE, (2, 2))
    assert fleet.service.get("p").generation == generation
    assert fleet.service.journal.planners()["p"].declared == desired("bad").declared


async def test_an_apply_of_which_one_is_refused_is_taken_back(mended):
    """When no rung passes nothing of the file is applied, and the error names the planner."""
    fleet = await mended(passes())
    failed = await apply(fleet, p=desired("bad"))
    assert (failed.step, serving(fleet, "p")) == (Step.FAILED, "0")
    assert failed.error["message"].startswith("planner 'p': revision")
    assert "mending" in failed.details


@pytest.mark.parametrize("sources", [("bad p", "bad q"), ("bad", "bad")])
async def test_two_planners_mend_at_once(mended, sources):
    """Each comes to its rung, with its own entry. Of one source each rung is asked once, for both."""
    fleet = await mended(passes(4), "p", "q", max_loras=6)
    both = [await fleet.control.swap(*each, order()) for each in zip("pq", map(Wanted, sources), strict=True)]
    assert [(await fleet.done(each)).step for each in both] == [Step.DONE, Step.DONE]
    assert (pruned(fleet, "p"), pruned(fleet, "q")) == ((4, 4), (4, 4))
    assert decision(fleet, planner="q").details["rungs"][-1]["top"] == 4
    assert len(fleet.exam.asked) == 6 * len(set(sources))
