"""curl: what a shell sends."""

import json
import subprocess

from asked import (
    CALLED,
    HELLO,
    HI,
    LANA,
    MESSAGES,
    MODEL,
    PLAN,
    TOOL,
    URL,
    Person,
    same,
    tell,
)


def post(path, body):
    command = [
        "curl",
        "-sS",
        "-N",
        f"{URL}/{path}",
        "-H",
        "content-type: application/json",
        "-d",
        json.dumps(body),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def chat():
    answer = json.loads(post("chat/completions", {"model": MODEL, "messages": MESSAGES}))
    same(answer["choices"][0]["message"]["content"], HELLO)


def stream():
    told = post("chat/completions", {"model": MODEL, "messages": MESSAGES, "stream": True})
    *chunks, last = [line.removeprefix("data: ") for line in told.splitlines() if line]
    same("".join(json.loads(chunk)["choices"][0]["delta"].get("content") or "" for chunk in chunks), HELLO)
    same(last, "[DONE]")


def tools():
    body = {"model": MODEL, "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"}
    call = json.loads(post("chat/completions", body))["choices"][0]["message"]["tool_calls"][0]
    same(json.loads(call["function"]["arguments"]), CALLED["arguments"])


def structured():
    form = {"type": "json_schema", "json_schema": {"name": "Person", "schema": Person.model_json_schema()}}
    answer = json.loads(
        post("chat/completions", {"model": MODEL, "messages": MESSAGES, "response_format": form})
    )
    same(Person.model_validate_json(answer["choices"][0]["message"]["content"]), LANA)


def responses():
    same(
        json.loads(post("responses", {"model": MODEL, "input": HI}))["output"][0]["content"][0]["text"], HELLO
    )


def plans():
    answer = json.loads(post("chat/completions", {"model": MODEL, "messages": MESSAGES, **PLAN}))
    same(answer["s3lora"]["plan"]["steps"][0]["tool"], "Search")


tell(chat=chat, stream=stream, tools=tools, structured=structured, responses=responses, plans=plans)
