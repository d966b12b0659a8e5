"""Which texts a tokenizer takes for control tokens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from s3lora_serve.engine.vllm.vllm_control_tokens import control_tokens


def tokenizer(template, *added, special=("<s>",)):
    """One with these added tokens, ``*`` before those that it calls special."""
    tokens = [SimpleNamespace(content=text.lstrip("*"), special=text.startswith("*")) for text in added]
    return SimpleNamespace(
        all_special_tokens=list(special), added_tokens_decoder=dict(enumerate(tokens)), chat_template=template
    )


@pytest.mark.parametrize(
    ("found", "template", "expected"),
    [
        (tokenizer(None, "*[INST]", "<h1>"), None, ("<s>", "[INST]")),
        (tokenizer("... <start_of_turn> ...", "<start_of_turn>", "<h1>"), None, ("<s>", "<start_of_turn>")),
        (tokenizer({"default": "x", "tools": "<call>"}, "<call>"), None, ("<call>", "<s>")),
        (tokenizer("no", "<call>"), "the operator's: <call>", ("<call>", "<s>")),
        (tokenizer("\n\n", "\n\n"), None, ("<s>",)),
        (SimpleNamespace(), None, ()),
        (None, "x", ()),
    ],
)
def test_special_tokens_and_those_of_the_chat_template(found, template, expected):
    """What the tokenizer calls special, and what a template opens turns with; no tags of HTML, no blanks."""
    assert control_tokens(found, template) == expected


@pytest.mark.engine
async def test_the_engine_knows_its_models(vllm_engine):
    """Those of the demo's base model, SmolLM2: broken up, its tokenizer finds none of them in a text."""
    from planners.prompts.control_tokens import control_tokens_of

    known = vllm_engine.control_tokens
    assert {"<|im_start|>", "<|im_end|>", "<jupyter_code>", "<repo_name>"} <= set(known)
    encode = vllm_engine._client.renderer.get_tokenizer()
    ids = set(encode.convert_tokens_to_ids(list(known)))
    text = "".join(known)
    assert ids & set(encode.encode(text)) == ids
    assert ids & set(encode.encode(control_tokens_of(known).broken(text))) == set()
