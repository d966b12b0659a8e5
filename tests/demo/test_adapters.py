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

# Questions that the adapters were not trained on, with the tools that the demo offers.
ASKED = {
    "hotpot-planner": ("Would a silicon shortage be bad for Intel's sales?", ("Search", "LLM")),
    "gsm8k-planner": (
        "Paul drives for 14 days. Each morning ride costs $6 and each afternoon ride $2. How much is it?",
        ("Calculator",),
    ),
}
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
    """Greedy output without any grammar is a valid plan that uses earlier results."""
    task, tools = ASKED[name]
    request = PlannerInput(task=task, tools=[ToolSpec(name=t, description=DESCRIPTIONS[t]) for t in tools])
    tokenizer = AutoTokenizer.from_pretrained(demo_base)
    base = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapter_path(name)).eval()
    prompt = tokenizer.apply_chat_template(
        render_messages(request), tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    answer = model.generate(ids, max_new_tokens=200, do_sample=False)[0, ids.shape[1] :]
    found = parse(tokenizer.decode(answer, skip_special_tokens=True))
    assert found.problems(tools) == ()
    assert any(step.depends_on for step in found.steps)
