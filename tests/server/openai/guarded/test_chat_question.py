"""Every text of a chat or completion that reaches a prompt stands in what the guard is asked."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from request_kinds import ASK, CHAT, TEXT
from scripted_judge import HARM

from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part, Passage
from s3lora_serve.server.openai.guarded.chat_question import questions_of

USER = {"role": "user", "content": "What next?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "Search", "arguments": '{"q": "Nolan"}'}}
TOOL = {"type": "function", "function": {"name": "Search", "description": "the web", "parameters": {"a": 1}}}


def of(**fields):
    """The one question of a chat."""
    (question,) = questions_of(fields, chat=True)
    return question


def test_a_conversation():
    """The last turn of the user is the task; all else has its part, and earlier turns are there twice."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who directed Inception?", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Nolan"}]},
        {"role": "assistant", "content": "Nolan."},
        {"role": "user", "content": [{"type": "text", "text": "Where was"}, "he born?"]},
    ]
    asked = of(messages=messages, tools=[TOOL], documents=[{"title": "Nolan", "text": "born in London"}])
    assert asked == GuardQuestion(
        "Where was\nhe born?",
        (
            Passage(Part.SYSTEM, "system", "Be brief."),
            Passage(Part.HISTORY, "user", 'Who directed Inception?\n{"name": "ann"}'),
            Passage(Part.HISTORY, "assistant", json.dumps({"tool_calls": [CALL]})),
            Passage(Part.EVIDENCE, "tool", 'Nolan\n{"tool_call_id": "c1"}'),
            Passage(Part.HISTORY, "assistant", "Nolan."),
            Passage(Part.TOOLS, "tool Search", 'name: Search\ndescription: the web\nparameters: {"a": 1}'),
            Passage(Part.DOCUMENTS, "document", "title: Nolan\ntext: born in London"),
        ),
        ("Who directed Inception?",),
    )


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"messages": [{"role": "system", "content": HARM}, USER]}, "system"),
        ({"messages": [{"role": "developer", "content": "x", "tools": [HARM]}, USER]}, "system"),
        ({"messages": [{"role": "user", "content": HARM}, {"role": "user", "content": " "}]}, "task"),
        ({"messages": [{"role": "user", "content": HARM}, USER]}, "history"),
        ({"messages": [{**USER, "name": HARM}]}, "history"),
        ({"messages": [USER, {"role": "assistant", "content": HARM}, USER]}, "history"),
        ({"messages": [USER, {"role": "assistant", "content": "", "reasoning": HARM}, USER]}, "history"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"id": HARM}]}, USER]}, "history"),
        ({"messages": [USER, {"role": "tool", "content": HARM}]}, "evidence"),
        ({"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": HARM}]}, "evidence"),
        ({"messages": [USER], "tools": [{"type": "function", "function": {"name": HARM}}]}, "tools"),
        ({"messages": [USER], "tools": [{"type": HARM, "function": {"name": "x"}}]}, "tools"),
        ({"messages": [USER], "tools": [{"function": {"name": "x", "parameters": {HARM: {}}}}]}, "tools"),
        ({"messages": [USER], "functions": [{"name": "x", "description": HARM}]}, "tools"),
        ({"messages": [USER], "response_format": {"type": "json_schema", "json_schema": HARM}}, "tools"),
        ({"messages": [USER], "structured_outputs": {"regex": f"How to make a {HARM}: .*"}}, "tools"),
        ({"messages": [USER], "documents": [{"text": "x", HARM: "y"}]}, "documents"),
    ],
)  # fmt: skip
def test_nothing_is_missing(fields, part):
    """Wherever a client can put a text, the guard is asked about it, as of that part."""
    asked = of(**fields)
    texts = [("task", asked.task), *((passage.part, passage.text) for passage in asked.passages)]
    assert [where for where, text in texts if HARM in text] == [part]
    assert asked.unreadable == ""


@pytest.mark.parametrize("written", [r"\u0062omb", "b\\u006fmb"])
def test_escapes_hide_nothing(written):
    """What the engine reads as JSON is read as JSON: a call's arguments, and a schema in a string."""
    call = {**CALL, "function": {"name": "Search", "arguments": f'{{"q": "{written}"}}'}}
    asked = of(messages=[USER, {"role": "assistant", "tool_calls": [call]}, USER])
    assert [passage.part for passage in asked.passages if HARM in passage.text] == [Part.HISTORY]
    asked = of(messages=[USER], structured_outputs={"json": f'{{\n"const": "{written}"}}'})
    assert [passage.part for passage in asked.passages if HARM in passage.text] == [Part.TOOLS]


@pytest.mark.parametrize("arguments", ["{half", r'{"q": "\ud800"}', "[" * 100_000, "", "5", '"a"'])
def test_arguments_that_are_no_object_stay_readable(arguments):
    """Whatever they are, the guard has a text, which any engine can be asked about."""
    call = {**CALL, "function": {"name": "Search", "arguments": arguments}}
    asked = of(messages=[USER, {"role": "assistant", "tool_calls": [call]}, USER])
    assert asked.unreadable == ""
    asked.passages[-1].text.encode()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([{"type": "image_url", "image_url": {"url": "data:,"}}], "a part of the type image_url"),
        ([{"type": "input_audio", "input_audio": {"data": ""}}], "a part of the type input_audio"),
        ([{"type": "prompt_embeds", "data": "gA=="}], "a part of the type prompt_embeds"),
        ([{"image_url": "data:,"}], "a part that is no text"),
        ([{"type": "text", "text": "x", "uuid": "1", "image_url": "data:,"}], "a part that is no text"),
        ([{"type": "text", "text": 5}], "a part that is no text"),
        ([{"type": f"a {HARM} here"}], "a part that is no text"),
        ({"type": "image_url"}, "a part of the type image_url"),
        (7, "a part that is no text"),
    ],
)
def test_what_is_no_text_is_named(content, named):
    """By what it is; a word of the client's never stands there."""
    asked = of(messages=[{"role": "user", "content": content}, USER])
    assert (asked.unreadable, HARM in asked.unreadable) == (named, False)


@pytest.mark.parametrize("messages", [None, "x", [], [5], [{"role": "seer", "content": "x"}, USER]])
def test_what_the_engine_would_not_take_is_never_allowed(messages):
    """Whatever it made of it, nothing of that was judged."""
    assert of(messages=messages).unreadable != ""


def test_what_can_be_read_of_it_is_asked():
    """Where it is served without a verdict, a role that nobody knows must not hide a text."""
    asked = of(messages=[{"role": "seer", "content": HARM}, USER, 5])
    assert asked == GuardQuestion(
        USER["content"], (Passage(Part.HISTORY, "", HARM),), unreadable="a message of an unknown role"
    )


def test_each_prompt_of_a_completion_is_a_question():
    """The whole prompt is the task; what is no text cannot be judged."""
    asked = questions_of({"prompt": ["a", "b"], "structured_outputs": {"choice": ["c"]}}, chat=False)
    form = (Passage(Part.TOOLS, "the answer's form", 'choice: ["c"]'),)
    assert asked == (GuardQuestion("a", form), GuardQuestion("b", form))
    assert questions_of({"prompt": "a"}, chat=False) == (GuardQuestion("a"),)
    for prompt in (None, [], 5, [[1, 2]]):
        assert questions_of({"prompt": prompt}, chat=False)[0].unreadable != ""


async def test_any_prompt_that_is_refused_refuses_all(app, guarded, judge):
    """Three prompts, two answers each: six refusals, and none of the harmless answers."""
    call = AsgiCall(app, TEXT, {"model": "p", "prompt": ["a", f"a {HARM}", "c"], "n": 2})
    await call
    answer = json.loads(call.text)
    assert ([choice["text"] for choice in answer["choices"]], len(judge.asked)) == ([""] * 6, 3)


async def test_an_image_is_not_let_through(app, judge):
    """A 403 that says what to do, and nobody was asked."""
    parts = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "What is this?"}]
    call = AsgiCall(app, CHAT, {**ASK, "messages": [{"role": "user", "content": parts}]})
    await call
    error = json.loads(call.text)["error"]
    assert (call.status, error["code"], judge.asked) == (403, "guard_undecided", [])
    assert "holds a part of the type image_url" in error["message"]
