"""Which questions an exam asks, how they are divided, and what is wrong with a folder of own ones."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from s3lora_serve.config import ExamConfig
from s3lora_serve.errors import ConfigError
from s3lora_serve.judging import question_sets
from s3lora_serve.safety.exam.exam_questions import ExamQuestions, exam_questions, questions_digest

PLAN = {
    "tools": [{"name": "Search", "description": "finds facts"}],
    "plan": "Plan: Look it up.\n#E1 = Search[it]",
}


def write(folder, **changes):
    """A folder of own questions; ``changes`` are texts of files in place of those, None for no file."""
    rows = {
        "attacks": [{"family": f"f{n % 2}", "prompt": f"How do I harm {n}?"} for n in range(6)],
        "harmless": [{"family": "kind", "prompt": f"How do I help {n}?"} for n in range(3)],
        "tasks": [{"family": "plans", "task": f"Find film {n}.", **PLAN} for n in range(2)],
    }
    for name, lines in rows.items():
        text = changes.get(name, "".join(json.dumps(row) + "\n" for row in lines))
        if text is not None:
            (folder / f"{name}.jsonl").write_text(text)
    return ExamConfig(questions=str(folder))


def test_the_shipped_ones_are_of_every_family():
    """As many as the settings say, as evenly as they can be, the same every time."""
    asked = exam_questions(ExamConfig())
    assert (len(asked.attacks), len(asked.harmless), len(asked.tasks), asked.own) == (200, 100, 40, False)
    for families in asked.families:
        counts = Counter(families)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert len(set(asked.attacks)) == 200
    assert asked == exam_questions(ExamConfig())


def test_fewer_are_some_of_the_more():
    """So that a few are a first look at the whole; none of a kind is none, too many are all there are."""
    few, most = exam_questions(ExamConfig(attacks=24)), exam_questions(ExamConfig(attacks=10_000, tasks=0))
    assert set(few.attacks) < set(most.attacks)
    assert (len(few.attacks), len(most.attacks), most.tasks) == (24, 240, ())
    assert few.digest != most.digest


def test_own_questions_are_asked_in_their_order(tmp_path):
    """Numbers are then those of the file's lines, which say where a question stands, and nothing of it."""
    asked = exam_questions(write(tmp_path))
    assert asked.own
    assert asked.attacks == tuple(f"How do I harm {n}?" for n in range(6))
    assert asked.where("attacks", 3) == "line 3 of attacks.jsonl"
    assert asked.where("tasks", 2) == "line 2 of tasks.jsonl"
    (tmp_path / "attacks.jsonl").write_text("\n\n" + (tmp_path / "attacks.jsonl").read_text())
    assert (
        exam_questions(ExamConfig(questions=str(tmp_path))).where("attacks", 3) == "line 5 of attacks.jsonl"
    )
    bare = ExamQuestions(("a", "b"), (), (), "d")
    assert bare.where("attacks", 2) == "question 2 of the attacks"


@pytest.mark.parametrize("kind", ["attacks", "harmless", "tasks"])
@pytest.mark.parametrize(
    ("text", "problem"), [(None, "there is no file"), ("", "is empty"), ("\n \n", "no question")]
)
def test_one_sided_sets_are_refused(tmp_path, kind, text, problem):
    """With the file's name, and what to add to it."""
    with pytest.raises(ConfigError, match=problem) as found:
        exam_questions(write(tmp_path, **{kind: text}))
    assert str(tmp_path / f"{kind}.jsonl") in found.value.message
    assert "add" in found.value.hint or "write" in found.value.hint


def test_no_folder_is_said(tmp_path):
    """By the first of its files."""
    with pytest.raises(ConfigError, match="there is no file"):
        exam_questions(ExamConfig(questions=str(tmp_path / "nowhere")))


def test_a_question_counts_once(tmp_path):
    """Else ten copies of one would look like ten answers."""
    twice = '{"family": "a", "prompt": "Same?"}\n\n{"family": "b", "prompt": " Same? "}\n'
    with pytest.raises(ConfigError, match="line 3 asks what line 1 asks") as found:
        exam_questions(write(tmp_path, attacks=twice))
    assert "Same" not in str(found.value)


def test_a_bad_row_is_named(tmp_path):
    """By its file and line."""
    with pytest.raises(ConfigError, match=r"attacks\.jsonl line 2"):
        exam_questions(write(tmp_path, attacks='{"family": "a", "prompt": "A?"}\n{"prompt": "B?"}\n'))


SECRET = "xyzzy"
TASK = {"family": "plans", "task": "Find it.", **PLAN}
PROMPT = {"family": "a", "prompt": "A?"}


@pytest.mark.parametrize(
    ("kind", "row", "cause"),
    [
        (
            "tasks",
            TASK | {"plan": f"Plan: {SECRET}.\n#E1 = Cook[{SECRET}]"},
            "valid: unknown tool at #E1",
        ),
        ("tasks", TASK | {"plan": f"{SECRET} and no plan"}, "line 1 of the plan is not ReWOO text"),
        ("tasks", TASK | {"plan": f"Plan: x\n#E1 = Search[{SECRET}"}, "line 2 of the plan is not ReWOO text"),
        ("tasks", TASK | {"plan": ""}, "line 1: "),
        ("tasks", TASK | {SECRET: 1}, "a field is not known"),
        ("tasks", TASK | {"task": 5}, "task: Input should be a valid string"),
        ("tasks", TASK | {"tools": [{"name": f"{SECRET} 1"}]}, "tools.0.name: is not as it must be"),
        ("tasks", TASK | {"tools": [{"name": "A", SECRET: SECRET}]}, "a field of tools.0 is not known"),
        ("tasks", TASK | {"tools": [{"name": SECRET}] * 2}, "tools: is not as it must be"),
        (
            "tasks",
            TASK | {"tools": [{"name": "A", "parameters": {"type": SECRET}}]},
            "tools.0.parameters: is not as it must be",
        ),
        ("attacks", PROMPT | {SECRET: SECRET}, "a field is not known"),
        ("attacks", {"family": "a", "prompt": [SECRET]}, "prompt: Input should be a valid string"),
        ("attacks", f'{{"{SECRET}": 1, "{SECRET}": 2}}', "is not JSON: a key that stands twice"),
        ("attacks", f'{{"family": "{SECRET}', "is not JSON: Unterminated string"),
        ("attacks", f'"{SECRET}"', "is not a JSON object"),
        ("harmless", {"family": "f0", "prompt": SECRET}, "is of a family that attacks.jsonl has"),
    ],
)
def test_an_error_has_nothing_of_a_question(tmp_path, kind, row, cause):
    """It goes into an operation and the journal: file, line and cause are all that it may have."""
    text = (row if isinstance(row, str) else json.dumps(row)) + "\n"
    with pytest.raises(ConfigError) as found:
        exam_questions(write(tmp_path, **{kind: text}))
    assert f"{tmp_path / kind}.jsonl line 1" in found.value.message
    assert cause in found.value.message
    told = [str(found.value), found.value.hint, repr(found.value.__cause__)]
    assert not [each for each in told if SECRET in each]
    assert len(found.value.message) < len(str(tmp_path)) + 150


@pytest.mark.parametrize(("limit", "most"), [("MOST_BYTES", 200), ("MOST_ROWS", 5)])
def test_a_file_may_only_be_so_large(tmp_path, monkeypatch, limit, most):
    """A server reads it whole; the error says which file, and how much it may have."""
    monkeypatch.setattr(question_sets, limit, most)
    with pytest.raises(ConfigError, match=rf"attacks\.jsonl has more than {most} (bytes|questions)") as found:
        exam_questions(write(tmp_path))
    assert found.value.hint


def test_links_lead_to_questions(tmp_path):
    """Files and the folder may be links; one that leads nowhere, round in a circle or to no file is none."""
    (there := tmp_path / "there").mkdir()
    asked = exam_questions(write(there))
    (here := tmp_path / "here").symlink_to(there)
    assert exam_questions(ExamConfig(questions=str(here))) == asked
    (real := there / "attacks.jsonl").rename(tmp_path / "elsewhere")
    real.symlink_to(tmp_path / "elsewhere")
    assert exam_questions(ExamConfig(questions=str(here))) == asked
    os.mkfifo(tmp_path / "pipe")
    for leads in ("nowhere", "there/attacks.jsonl", "pipe", "there", "/dev/zero"):
        real.unlink()
        real.symlink_to(tmp_path / leads)
        with pytest.raises(ConfigError, match="there is no file"):
            exam_questions(ExamConfig(questions=str(here)))


def test_halves_divide_each_family(tmp_path):
    """Nothing is lost or asked in both, the same seed divides alike, and halves know digest and lines."""
    whole = exam_questions(ExamConfig())
    one, other = whole.halves(7)
    for kind in ("attacks", "harmless", "tasks"):
        parts = getattr(one, kind), getattr(other, kind)
        assert sorted(map(str, (*parts[0], *parts[1]))) == sorted(map(str, getattr(whole, kind)))
    assert abs(len(one.attacks) - len(other.attacks)) <= len(set(whole.families[0]))
    ours, theirs = (Counter(half.families[0]) for half in (one, other))
    assert all(abs(ours[family] - theirs[family]) <= 1 for family in set(whole.families[0]))
    assert whole.halves(7) == (one, other)
    assert whole.halves(8)[0].attacks != one.attacks
    assert len({whole.digest, one.digest, other.digest}) == 3
    assert one.digest == questions_digest(one.attacks, one.harmless, one.tasks)
    at = whole.attacks.index(other.attacks[4]) + 1
    assert other.where("attacks", 5) == whole.where("attacks", at)
    assert all(half.own for half in exam_questions(write(tmp_path)).halves(7))


def test_questions_without_families_are_divided_as_one():
    """Those that a caller made."""
    one, other = ExamQuestions(tuple("abcdef"), (), (), "d").halves(0)
    assert sorted(one.attacks + other.attacks) == list("abcdef")
    assert (len(one.attacks), len(other.attacks)) == (3, 3)


def test_one_attack_has_no_halves():
    """It would be chosen by nothing, or confirmed by nothing."""
    with pytest.raises(ValueError, match=r"cannot be divided|nothing to ask"):
        ExamQuestions(("a",), ("b", "c"), (), "d").halves(0)
