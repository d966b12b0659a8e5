"""Items of ``input`` are a chat's messages: what a chat could not say is refused, by its place."""

from __future__ import annotations

import pytest

from s3lora_serve.server.openai.responses.input_items import items_of, messages_of
from s3lora_serve.server.validation import RequestRefused

CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "find", "arguments": '{"q": 1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "found"}
SAID = {
    "type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress",
    "content": [
        {"type": "output_text", "text": "I look", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "it up"},
    ],
}  # fmt: skip
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}]


def test_a_text_is_what_the_user_says():
    """The shortest form."""
    assert messages_of("hi") == [{"role": "user", "content": "hi"}]


def test_an_assistants_items_are_one_message():
    """Thought, text and calls that follow each other, as the engine puts them together; a result answers."""
    assert messages_of([{"role": "user", "content": "hi"}, THOUGHT, SAID, CALL, RESULT]) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "reasoning": "hm", "content": "I look\nit up", "tool_calls": CALLS},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
    ]
    again = [{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}]
    assert messages_of(again) == again


@pytest.mark.parametrize(
    "given",
    [
        "hi",
        [THOUGHT, SAID, CALL, CALL, RESULT, RESULT, SAID],
        [SAID, SAID, CALL, THOUGHT],
        [{"role": "developer", "content": [{"type": "input_text", "text": "be"}]}, RESULT, CALL],
        [{"role": "user", "content": [IMAGE, {"type": "input_text", "text": "what?"}]}],
        [CALL, {**RESULT, "output": [IMAGE]}],
    ],
)
def test_written_as_items_they_are_the_same_messages(given):
    """And no item says that it is unfinished, which the engine would have continued."""
    messages = messages_of(given)
    items = items_of(messages)
    assert messages_of(items) == messages
    assert [item for item in items if "status" in item] == []


def test_reasoning_without_a_text_says_nothing():
    """Clients send it back as they got it."""
    empty = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": None}
    assert messages_of([empty, {"role": "user", "content": "hi"}]) == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("item", "at"),
    [
        (7, "input[1]"),
        ({"type": "item_reference", "id": "msg_1"}, "input[1]"),
        ({"type": "web_search_call", "id": "ws", "status": "completed"}, "input[1]"),
        ({"type": "mcp_call", "arguments": "secret"}, "input[1]"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "x", "input": "y"}, "input[1]"),
        ({"type": "secret words"}, "input[1]"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        ({"role": "user"}, "input[1].content"),
        ({"role": "user", "content": []}, "input[1].content"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[1].content[0]"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[1].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[1].content[0].text"),
        ({"role": "assistant", "content": [IMAGE]}, "input[1].content"),
        ({**CALL, "namespace": "n"}, "input[1]"),
        ({**CALL, "arguments": {"q": 1}}, "input[1].arguments"),
        ({**RESULT, "output": {"a": 1}}, "input[1].output"),
        ({**THOUGHT, "encrypted_content": "gAAA"}, "input[1]"),
        ({**THOUGHT, "content": [{"type": "reasoning_text"}]}, "input[1].content"),
    ],
)  # fmt: skip
def test_what_a_chat_cannot_say_is_refused(item, at):
    """With its place and a way out, and no word of the client's."""
    with pytest.raises(RequestRefused) as refused:
        messages_of([{"role": "user", "content": "hi"}, item])
    assert (refused.value.status, refused.value.param, bool(refused.value.hint)) == (400, at, True)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("given", [None, [], {}, 7])
def test_there_must_be_an_input(given):
    """A text or items."""
    with pytest.raises(RequestRefused) as refused:
        messages_of(given)
    assert refused.value.param == "input"
