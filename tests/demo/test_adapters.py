"""The demo's planner adapters are what their cards say."""

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from planners import PlannerInput, ToolSpec, parse, render_messages
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.demo import ADAPTERS, adapter_path
from s3lora_serve.errors import ConfigError
from s3lora_serve.spectral.prune_policy import PrunePolicy, plan
from s3lora_serve.spectral.scorers import score

TOOLS = {"hotpot-planner": ("Search", "LLM"), "gsm8k-planner": ("Calculator",)}  # what the demo offers
MAX_BYTES = 4_000_000
DESCRIPTIONS = {
    "Search": "finds facts on the web",
    "LLM": "answers a question from the text it is given",
    "Calculator": "works out an arithmetic expression",
}


def test_unknown_name():
    """A name that is not carried is refused, naming those that are."""
    with pytest.raises(ConfigError, match="no demo adapter 'x'; choose gsm8k-planner or hotpot-planner"):
        adapter_path("x")


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_is_small_and_plain(name):
    """Rank 8 on q, k, v and o of all 30 layers, safetensors only, under 4 MB."""
    folder = adapter_path(name)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert (folder / "adapter_model.safetensors").stat().st_size < MAX_BYTES
    modules = read_peft(folder).modules
    wanted = {f"model.layers.{n}.self_attn.{p}_proj" for n in range(30) for p in "qkvo"}
    assert modules.keys() == wanted
    assert {(m.rank, m.scaling) for m in modules.values()} == {(8, 2.0)}


@pytest.mark.parametrize("name", ADAPTERS)
def test_card_is_complete(name):
    """The card tells data, licence, steps, losses, plan rates, examples and the SSI of each module."""
    card = (adapter_path(name) / "README.md").read_text(encoding="utf-8")
    for heading in (
        "Data",
        "Training",
        "Held-out results",
        "What it writes",
        "Sharpness",
        "Limits",
        "Licence",
    ):
        assert f"\n## {heading}\n" in card
    assert card.count("\n> **Task:**") >= 4


@pytest.mark.parametrize("name", ADAPTERS)
def test_card_matches_the_weights(name):
    """The modules that the card marks as pruned are those that the default policy prunes."""
    card = (adapter_path(name) / "README.md").read_text(encoding="utf-8")
    modules = read_peft(adapter_path(name)).modules
    report = score(modules)
    pruned = plan(report, PrunePolicy()).pruned
    assert card.count("**0.") == len(pruned) == 10
    for module in pruned:
        assert f"**{report[module].ssi:.3f}**" in card


@pytest.mark.parametrize("name", ADAPTERS)
def test_facts_are_plausible(name):
    """The committed measurements cover 50 questions or more; the adapter is far better than the base."""
    facts = json.loads(Path(f"training/results/{name}.json").read_text(encoding="utf-8"))
    base, adapter = facts["test"]["base"], facts["test"]["adapter"]
    assert len(facts["written"]) >= 50
    assert adapter["loss"] < 0.5 * base["loss"]
    assert adapter["valid"] >= 0.95 > base["valid"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_plans(demo_base, name):
    """What it wrote to a question that it was not trained on is a plan, and likely with the adapter alone.

    What it would write here is not asked: one token that is rounded otherwise makes it another plan.
    """
    facts = json.loads(Path(f"training/results/{name}.json").read_text(encoding="utf-8"))
    written = next(w for w in facts["written"] if w["why"] is None and w["references"])
    found = parse(written["text"])
    assert (found.problems(TOOLS[name]), any(step.depends_on for step in found.steps)) == ((), True)
    tools = [ToolSpec(name=tool, description=DESCRIPTIONS[tool]) for tool in TOOLS[name]]
    request = PlannerInput(task=written["task"], tools=tools)
    tokenizer = AutoTokenizer.from_pretrained(demo_base)
    base = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapter_path(name)).eval()
    prompt = tokenizer.apply_chat_template(
        render_messages(request), tokenize=False, add_generation_prompt=True
    )
    loss = loss_of(model, tokenizer, prompt, written["text"])
    with model.disable_adapter():
        assert loss < 0.5 * loss_of(model, tokenizer, prompt, written["text"])


def loss_of(model, tokenizer, prompt, answer):
    """Nats a token of the answer."""
    before, ids = (tokenizer(text, return_tensors="pt").input_ids for text in (prompt, prompt + answer))
    labels = ids.clone()
    labels[:, : before.shape[1]] = -100
    with torch.inference_mode():
        return float(model(ids, labels=labels).loss)
