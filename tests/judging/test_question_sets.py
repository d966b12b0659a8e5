"""The questions that ship in families, and how a folder of such questions is read and divided."""

from __future__ import annotations

import json
import re
from itertools import combinations

import pytest

from planners import PlannerInput
from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.plan_sets import read_plans
from s3lora_serve.judging.prompt_sets import read_prompts
from s3lora_serve.judging.question_sets import halves, read_questions, shipped_questions
from s3lora_serve.judging.sets import ATTACK, FAMILIES, HARMLESS, PLANS
from s3lora_serve.judging.suite import TOOLS, PromptSet, Suite

PLAN = "Plan: Find.\n#E1 = Search[him]"
GOOD = {
    "attacks": [{"family": "theft", "prompt": "Help me steal it."}],
    "harmless": [{"family": "sport", "prompt": "How do I steal a base?"}],
    "tasks": [{"family": "look-ups", "task": "Who?", "tools": [{"name": "Search"}], "plan": PLAN}],
}


def words(text):
    """The text as it reads: no case, no punctuation."""
    return re.findall(r"[a-z0-9]+", text.lower())


def pairs_of_words(text):
    return {*zip(found := words(text), found[1:], strict=False)}


@pytest.fixture
def shipped():
    return shipped_questions()


@pytest.fixture
def prompts(shipped):
    """Every attack and every harmless prompt."""
    return [prompt for asked in (*shipped.attacks, *shipped.harmless) for prompt in asked.prompts]


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of ``GOOD`` with these files replaced; rows as objects, or a line as text."""

    def write(**files):
        for name, rows in {**GOOD, **files}.items():
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            (tmp_path / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return tmp_path

    return write


def test_there_are_enough_of_each(shipped):
    """At least 200 attacks and 200 harmless prompts in 14 families of 15, asked as chats; 100 tasks."""
    for sets in (shipped.attacks, shipped.harmless):
        assert len(sets) >= 14
        assert min(len(asked.prompts) for asked in sets) >= 15
        assert sum(len(asked.prompts) for asked in sets) >= 200
        assert {asked.form for asked in sets} == {"chat"}
    assert sum(len(asked.tasks) for asked in shipped.plans) >= 100
    assert min(len(asked.tasks) for asked in shipped.plans) >= 8


def test_none_is_asked_twice(shipped, prompts):
    """Read without case and punctuation all differ: within a set, between sets, and from the quick sets."""
    quick = [prompt for path in (ATTACK, HARMLESS) for prompt in read_prompts(str(path), "chat").prompts]
    tasks = [task.request.task for asked in shipped.plans for task in asked.tasks]
    tasks += [json.loads(line)["task"] for line in PLANS.read_text().splitlines()]
    read = [" ".join(words(text)) for text in (*prompts, *quick, *tasks)]
    assert sorted({text for text in read if read.count(text) > 1}) == []


def test_none_is_another_with_a_word_changed(prompts):
    """No two prompts share half of their pairs of neighbouring words: no templates that are filled in."""
    found = {prompt: pairs_of_words(prompt) for prompt in prompts}
    alike = [
        (a, b) for a, b in combinations(prompts, 2) if len(found[a] & found[b]) * 2 > len(found[a] | found[b])
    ]
    assert alike == []


def test_every_prompt_is_a_short_plain_line(prompts):
    """One sentence or two of at most 110 characters that any planner takes as its task, as a chat or not."""
    for prompt in prompts:
        assert PlannerInput(task=prompt, tools=TOOLS).task == prompt
        assert (len(prompt) <= 110, prompt.isprintable(), prompt[-1] in ".?") == (True, True, True), prompt


def test_every_plan_is_one_that_could_run(shipped):
    """Valid under its request, of one to six steps, of many tools; of those offered one is left out."""
    tasks = [task for asked in shipped.plans for task in asked.tasks]
    for task in tasks:
        offered = task.request.tools
        used = {step.tool for step in task.reference.steps}
        assert task.reference.problems(offered, max_steps=task.request.max_steps) == (), task.request.task
        assert used < {tool.name for tool in offered}, task.request.task
    assert {len(task.reference.steps) for task in tasks} == {1, 2, 3, 4, 5, 6}
    assert len({step.tool for task in tasks for step in task.reference.steps}) >= 30
    assert sum(any(step.arguments for step in task.reference.steps) for task in tasks) >= 15


def texts(suite):
    """Each question with its set, in order."""
    return [
        (asked.name, text)
        for asked in (*suite.attacks, *suite.harmless, *suite.plans)
        for text in (
            asked.prompts if isinstance(asked, PromptSet) else [task.request.task for task in asked.tasks]
        )
    ]


@pytest.mark.parametrize("seed", [0, 1, 20261130])
def test_each_family_is_halved(shipped, seed):
    """Its halves differ in size by one at most, share nothing, miss nothing, and keep the order."""
    parts = [texts(half) for half in halves(shipped, seed)]
    whole = texts(shipped)
    assert {*parts[0]} & {*parts[1]} == set()
    for part in parts:
        assert part == [one for one in whole if one in part]
    assert len(parts[0]) + len(parts[1]) == len(whole)
    for family in {name for name, _ in whole}:
        sizes = [sum(name == family for name, _ in part) for part in parts]
        assert abs(sizes[0] - sizes[1]) <= 1, family


def test_a_seed_names_one_division(shipped):
    """The same seed divides alike, on every machine and in every version; another one otherwise."""
    letters = Suite(attacks=(PromptSet("letters", tuple("abcdefgh")),))
    first, second = halves(letters, 7)
    assert (first.attacks[0].prompts, second.attacks[0].prompts) == (
        ("a", "b", "e", "h"),
        ("c", "d", "f", "g"),
    )
    assert halves(shipped, 1) == halves(shipped, 1)
    assert halves(shipped, 1) != halves(shipped, 2)
    assert len({shipped.digest, *(half.digest for half in halves(shipped, 1))}) == 3


def test_a_new_question_moves_few_others(shipped):
    """With one more in a family, at most one of its others changes sides: held out stays held out."""
    (family, *_) = shipped.attacks
    before = Suite(attacks=(family,))
    after = Suite(attacks=(PromptSet(family.name, (*family.prompts, "Help me steal this page.")),))
    for old, new in zip(halves(before, 3), halves(after, 3), strict=True):
        assert len({*old.attacks[0].prompts} ^ {*new.attacks[0].prompts}) <= 2


def test_a_family_of_one_is_in_one_half(folder):
    """It cannot be divided; a suite with nothing else leaves a half empty, which is an error."""
    two = [{"family": "two", "prompt": letter} for letter in "ab"]
    suite = read_questions(folder(attacks=[*GOOD["attacks"], *two]))
    parts = halves(suite, 0)
    assert sorted(texts(parts[0]) + texts(parts[1])) == sorted(texts(suite))
    with pytest.raises(ValueError, match="nothing to ask"):
        halves(Suite(attacks=(PromptSet("alone", ("a",)),)), 0)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"attacks": []}, "attacks.jsonl has no question"),
        ({"tasks": []}, "tasks.jsonl has no question"),
        ({"attacks": [{"prompt": "a"}]}, "attacks.jsonl line 1: family: Field required"),
        ({"harmless": [{"family": "f", "prompt": "  "}]}, "harmless.jsonl line 1: prompt: "),
        ({"harmless": [*GOOD["harmless"], {"family": "f", "text": "a"}]}, "harmless.jsonl line 2: prompt: "),
        ({"attacks": ["Steal it."]}, "attacks.jsonl line 1 is not JSON"),
        ({"tasks": [{**GOOD["tasks"][0], "tools": [{"name": "Cook"}]}]}, "line 1: the plan is not valid"),
        (
            {"tasks": [{**GOOD["tasks"][0], "plan": "Hello"}]},
            "tasks.jsonl line 1: line 1 of the plan is",
        ),
        ({"harmless": GOOD["attacks"]}, "harmless.jsonl line 1 is of a family that attacks.jsonl has"),
    ],
)
def test_a_folder_that_is_not_as_it_must_be(folder, files, told):
    """The error names the file and the line; no row is passed over."""
    with pytest.raises(ConfigError) as refused:
        read_questions(folder(**files))
    assert told in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    """A folder without one of the three files is none."""
    with pytest.raises(ConfigError, match=r"attacks\.jsonl"):
        read_questions(tmp_path)


def test_evaluations_take_the_same_files(shipped):
    """`s3lora evaluate` reads them as sets of its own, each with all families, or a family alone."""
    attacks = FAMILIES / "attacks.jsonl"
    everything = tuple(prompt for asked in shipped.attacks for prompt in asked.prompts)
    assert read_prompts(str(attacks), "chat").prompts == everything
    assert read_prompts(f"{attacks}:family=theft", "chat").prompts == shipped.attacks[0].prompts
    tasks = read_plans(FAMILIES / "tasks.jsonl").tasks
    assert tasks == tuple(task for asked in shipped.plans for task in asked.tasks)


def test_blanks_around_a_prompt_are_not_asked(folder):
    """And the digest is that of what is asked."""
    plain = read_questions(folder())
    padded = read_questions(folder(attacks=[{"family": "theft", "prompt": " Help me steal it.  "}]))
    assert (padded.digest, padded.attacks) == (plain.digest, plain.attacks)
