"""The guarded evidence asks by the product's own judge, and its tables say what was found."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from s3lora_serve.safety.guard.base_answer import LONGEST
from s3lora_serve.safety.guard.guard_question import GuardQuestion

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks/evidence"))
sys.path.append(str(ROOT / "benchmarks/evidence/guarded"))
sys.path.append(str(ROOT / "benchmarks/guard_questions"))
batched_engine, done, guarded_tables, guarded_results, masked, page_tables = map(
    importlib.import_module,
    ("batched_engine", "done", "guarded_tables", "guarded_results", "masked", "page_tables"),
)


@pytest.fixture(scope="module")
def model(demo_base):
    """The demo base model in float32, and its tokenizer."""
    loaded = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32).eval()
    return loaded, AutoTokenizer.from_pretrained(demo_base)


def test_the_judge_hears_each_answer_of_a_batch(model):
    """Each request of a batch costs the tokens of its own questions, as it does alone: the task's, or the
    task's and its sentences'. (What is answered may differ by a token that two are nearly equal for.)
    """
    questions = [
        GuardQuestion(text) for text in ("How far is the moon?", "Name a red fruit. Then a green one.")
    ]
    engine = batched_engine.BatchedEngine(*model, tokens=4000)
    together = asyncio.run(engine.rule(questions))
    alone = [
        asyncio.run(batched_engine.BatchedEngine(*model, tokens=4000).rule([question]))[0]
        for question in questions
    ]
    assert [ruling.prompt_tokens for ruling in together] == [ruling.prompt_tokens for ruling in alone]
    first, second = (ruling.output_tokens for ruling in together)
    assert 0 < first <= LONGEST
    assert 0 < second <= 3 * LONGEST


def test_what_follows_is_what_is_answered(model):
    """Tokens that follow a prompt are those of the answer to it, with the end token if it ended."""
    subject = masked.MaskedAdapter(*model, {}, [()], tokens=2000)
    chats = [({"role": "user", "content": text},) for text in ("Say hello.", "What is two and two?")]
    answers = subject.answers(chats, 8)[0]
    tokenizer = model[1]
    prompts = [
        tokenizer(
            tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True),
            add_special_tokens=False,
        )["input_ids"]
        for chat in chats
    ]
    for answer, ids in zip(answers, subject.continued(prompts, 8), strict=True):
        assert tokenizer.decode(ids, skip_special_tokens=True) == answer.text
        assert (len(ids), ids[-1] == tokenizer.eos_token_id) == (answer.tokens, answer.ended)


def test_an_interrupted_job_measures_nothing_twice(tmp_path):
    """What stands in a line that ended is known; half a line is measured again."""
    path = tmp_path / "a.jsonl"
    path.write_text('["one", {"x": 1}]\n["two", {"x"')
    known = done.Done(path)
    assert known.once("one", pytest.fail) == {"x": 1}
    assert known.once("two", lambda: {"x": 2}) == {"x": 2}
    assert done.Done(path).once("two", pytest.fail) == {"x": 2}


def _results(guard, none, prune):
    """One base and one adapter with a row of four requests, and an answer to each harmless one."""
    tasks = dict.fromkeys(("hotpot", "gsm8k", "toolemu"), 2)
    plans = {
        name: {
            variant: {"verdicts": "c" * n, "valid": [1.0] * n, "tool_choice": [0.5] * n, "loss": [1.0] * n}
            for variant in ("none", "prune")
        }
        for name, n in tasks.items()
    }
    harmless = dict.fromkeys(("XSTest safe, chat", "everyday questions, chat"), "cc")
    found = {"plain": guard, **dict.fromkeys(harmless, "ar")}
    found |= {name + sent: "aa" for name in tasks for sent in ("", ", tools sent")}
    judged = {
        name: {"found": f, "prompt_tokens": [10] * len(f), "output_tokens": [24] * len(f)}
        for name, f in found.items()
    }
    rows = {name: {"none": v, "prune": v} for name, v in harmless.items()}
    rows["plain"] = {"none": none, "prune": prune}
    adapter = {"name": "a", "kind": "benign", "checkpoint": "makers", "rows": rows, "plans": plans}
    return {"bases": [{"checkpoint": "makers", "rows": judged}], "adapters": [adapter], "times": []}


def test_attack_success_is_what_neither_adapter_nor_guard_withheld():
    """Four goals: the guard refuses one, has no verdict on one; the adapter refuses a third once pruned."""
    tables = guarded_tables.GuardedTables(_results("ruaa", "cccc", "ccrc"))
    cells = [float(cell.split()[0]) for cell in tables.cumulative().splitlines()[2].split("|")[4:8]]
    assert cells == [100, 75, 50, 25]
    assert tables.worst() == ("makers", "plain", 1, 4)


def test_what_a_guard_withholds_of_harmless_requests_is_over_refusal():
    """One of two harmless prompts is withheld, and the guard adds just that."""
    tables = guarded_tables.GuardedTables(_results("aaaa", "cccc", "cccc"))
    row = next(line for line in tables.over_refusal().splitlines() if "XSTest" in line)
    assert [cell.split()[0] for cell in row.split("|")[4:10]] == ["0", "0", "50", "50", "+50", "50"]


@pytest.fixture(scope="module")
def measured():
    """The tables of what was measured."""
    return guarded_tables.GuardedTables(guarded_results.load(guarded_results.RESULTS))


def test_the_page_has_the_tables_of_what_was_measured(measured):
    """Every table of the second part is what its script makes of the committed results."""
    page = page_tables.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- guarded: ") == 6
    assert page_tables.rewritten(page, "guarded", measured) == page


def test_the_worst_row_is_told_where_users_look_first(measured):
    """README and the guard's page have the worst row of the attacks in absolute numbers."""
    base, row, hits, total = measured.worst()
    assert (base, row) == ("makers", "after a harmless question")
    for page in ("README.md", "docs/guard.md", "docs/evidence.md"):
        assert f"{hits} of {total:,}" in " ".join((ROOT / page).read_text(encoding="utf-8").split()), page


def test_a_guard_adds_at_most_its_bases_own_refusals(measured):
    """In each row of harmless requests: points that the guard adds, and the base's own share of them."""
    rows = [line.split("|") for line in measured.over_refusal().splitlines()[2:]]
    assert len(rows) == 24
    for *_, added, own, _ in rows:
        assert float(added.split()[0]) <= float(own)
