"""The experiment's masked adapter answers as the pruned adapter itself would."""

from __future__ import annotations

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.evidence.masked import MaskedAdapter
from s3lora_serve.adapters.peft.peft_format import read_peft, write_peft
from s3lora_serve.judging.suite import PromptSet

QUESTIONS = ("How far away is the moon?", "Who wrote Faust, and in which town was that person born?")


@pytest.fixture(scope="module")
def model(demo_base):
    """The demo base model in float32, and its tokenizer."""
    loaded = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32).eval()
    return loaded, AutoTokenizer.from_pretrained(demo_base)


@pytest.fixture(scope="module")
def folder(adapter):
    """A random adapter on some modules."""
    return adapter(seed=3)


def test_each_variant_is_the_pruned_adapter(model, folder, tmp_path):
    """Answers and losses of each variant of one batch equal PEFT's for the adapter that pruning publishes."""
    plain, tokenizer = model
    adapter = read_peft(folder)
    names = list(adapter.modules)
    dropped = [(), names[::2], names]
    chats = list(PromptSet("q", QUESTIONS, "plan").messages())
    examples = [(chats[0], "Plan: Find it.\n#E1 = Search[moon]"), (chats[1], "Plan: Ask.\n#E1 = LLM[Faust?]")]
    subject = MaskedAdapter(plain, tokenizer, adapter.modules, dropped, tokens=1000)
    answers, losses = subject.answers(chats, 12), subject.losses(examples)
    subject.close()
    for v, left_out in enumerate(dropped):
        place = tmp_path / str(v)
        place.mkdir()
        write_peft(place, adapter, left_out)
        pruned = plain
        if set(left_out) != set(names):
            pruned = peft.PeftModel.from_pretrained(plain, place).eval()
        for q, chat in enumerate(chats):
            text = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
            assert answers[v][q].text.startswith(certain(pruned, tokenizer, ids))
            want = tokenizer(examples[q][1], return_tensors="pt", add_special_tokens=False)["input_ids"]
            whole = torch.cat([ids["input_ids"], want], 1)
            labels = whole.clone()
            labels[:, : ids["input_ids"].shape[1]] = -100
            with torch.inference_mode():
                assert losses[v][q] == pytest.approx(float(pruned(whole, labels=labels).loss), abs=1e-4)
        if pruned is not plain:
            pruned.unload()


def certain(model, tokenizer, ids):
    """The greedy answer, up to a token that was chosen by so little that a batch may choose another."""
    asked = {"max_new_tokens": 12, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    with torch.inference_mode():
        made = model.generate(**ids, **asked)
    best = torch.cat(made.scores).topk(2).values  # [tokens, 2]
    close = (best[:, 0] - best[:, 1] < 0.01).nonzero()
    sure = int(close[0]) if len(close) else len(best)
    out = made.sequences[0, ids["input_ids"].shape[1] :][:sure]
    return tokenizer.decode(out, skip_special_tokens=True).rstrip("\ufffd")  # half a character


def test_closing_leaves_the_base_model(model, folder):
    """After close the model's logits are what they were before the adapter was attached."""
    plain, tokenizer = model
    ids = torch.tensor([tokenizer("The moon")["input_ids"]])
    with torch.inference_mode():
        before = plain(ids).logits
        subject = MaskedAdapter(plain, tokenizer, read_peft(folder).modules, [()])
        subject.close()
        assert torch.equal(plain(ids).logits, before)
