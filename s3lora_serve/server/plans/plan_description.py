"""What OpenAPI tells of POST /v1/plans beside its types: examples, and the events of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOOLS = [
    {"name": "Wikipedia", "description": "searches an encyclopedia"},
    {"name": "LLM", "description": "answers a question from the text it is given"},
]
EXAMPLES: Any = {
    "tools of the request": {
        "summary": "a task and the tools for it",
        "value": {
            "planner": "hotpot-planner",
            "task": "Where was the director of Inception born?",
            "tools": _TOOLS,
            "max_steps": 4,
        },
    },
    "tools of the planner": {
        "summary": "the planner's own tools, step by step",
        "value": {"planner": "gsm8k-planner", "task": "What is 12 times 7, minus 4?", "stream": True},
    },
    "JSON arguments": {
        "summary": "a tool with arguments, and a revision that must be the one that answers",
        "value": {
            "planner": "hotpot-planner",
            "task": "How cold is it in the town where Nolan was born?",
            "tools": [
                *_TOOLS,
                {
                    "name": "weather",
                    "description": "weather of a place",
                    "parameters": {
                        "type": "object",
                        "properties": {"place": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
                        "required": ["place"],
                    },
                },
            ],
            "revision": "0123456789abcdef",
        },
    },
    "going on": {
        "summary": "results that are known already; the plan continues at #E2",
        "value": {
            "planner": "hotpot-planner",
            "task": "Where was the director of Inception born?",
            "tools": _TOOLS,
            "evidence": {"#E1": "Inception was directed by Christopher Nolan."},
        },
    },
}


def _event(name: str, schema: str) -> dict[str, Any]:
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": f"#/components/schemas/{schema}"},
    }
    return {
        "type": "object",
        "properties": {"event": {"const": name}, "data": data},
        "required": ["event", "data"],
    }


WHO = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in (
        ("x-s3lora-engine", "vllm; fake: no model answered"),
        ("x-s3lora-planner", "the planner that answered"),
        ("x-s3lora-revision", "digest of the revision that answered"),
        ("x-s3lora-role", "active, or canary for one that is tried"),
    )
}
ANSWERS: Mapping[str, Any] = {
    "description": "the plan; with `stream`, an event `step` for each step, then one `meta` or one `error`",
    "headers": WHO,
    "content": {
        "text/event-stream": {
            "itemSchema": {
                "oneOf": [
                    _event("step", "PlanStep"),
                    _event("meta", "PlanMeta"),
                    _event("error", "ErrorBody"),
                ]
            }
        }
    },
}
