"""``S3LoRAPlanner`` as an object: written, copied, described, and never showing its key."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
from langchain_core.load import dumpd, dumps, load
from threaded_server import threaded_server

from planners import Plan, ToolSpec
from planners.client.errors import PlannerAPIError
from planners.langchain import S3LoRAPlanner

KEY = "correct-horse-battery-staple"
PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOLS = (ToolSpec(name="Search", description="find"), ToolSpec(name="Add", parameters=PARAMETERS))


@pytest.fixture
def planner():
    """One with a key and every kind of setting."""
    return S3LoRAPlanner(
        base_url="http://there/v1",
        api_key=KEY,
        planner="p",
        tools=TOOLS,
        max_steps=3,
        repair=True,
        timeout=None,
        session="s",
        name="my planner",
    )


def test_it_is_written_without_its_key_and_read_back(planner):
    """As JSON the key is the name of a secret; with that secret, the same object comes back."""
    written = dumpd(planner)
    again = load(
        written,
        allowed_objects=[S3LoRAPlanner],
        valid_namespaces=["planners"],
        secrets_map={"S3LORA_API_KEY": KEY},
    )
    assert KEY not in dumps(planner) + json.dumps(written)
    assert (again, again.tools, again.api_key) == (planner, TOOLS, planner.api_key)


def test_the_key_is_shown_nowhere(planner):
    """Neither by repr nor by str, model_dump or the schema of its settings."""
    shown = [repr(planner), str(planner), str(planner.model_dump()), planner.model_dump_json()]
    assert [KEY in text for text in shown] == [False] * 4


def test_copies_ask_where_they_say(tmp_path):
    """Pickled, copied and changed ones connect with their own settings, not the original's."""
    with (
        threaded_server(tmp_path / "one", "p", api_key=KEY) as one,
        threaded_server(tmp_path / "two", "p", "q") as two,
    ):
        planner = S3LoRAPlanner(base_url=one.url, api_key=KEY, planner="p", tools=["A"])
        first = planner.invoke("x")
        pickled = pickle.loads(pickle.dumps(planner))
        moved = planner.model_copy(update={"base_url": two.url, "planner": "q"})
        deep = planner.model_copy(deep=True)
        keyless = planner.model_copy(update={"api_key": None})
        with pytest.raises(PlannerAPIError) as caught:
            keyless.invoke("x")
        planner.close()
        plans = [each.invoke("x") for each in (planner, pickled, deep)]
        assert (moved.invoke("x").meta.planner, caught.value.status) == ("q", 401)
    assert [plan.steps for plan in plans] == [first.steps] * 3


def test_the_key_is_found_in_the_environment(monkeypatch):
    """Without one given, S3LORA_API_KEY; without that none, and never another provider's."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.delenv("S3LORA_API_KEY", raising=False)
    none = S3LoRAPlanner(planner="p").api_key
    monkeypatch.setenv("S3LORA_API_KEY", KEY)
    found = S3LoRAPlanner(planner="p").api_key
    assert (none, found.get_secret_value()) == (None, KEY)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"temprature": 0.5}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"planner": ""}, "planner"),
        ({"base_url": "there"}, "is not an address"),
        ({"base_url": "http://me:secret@there"}, "give the key as api_key"),
        ({"tools": ["web search"]}, "such as 'web_search'"),
        ({"tools": ["A", "A"]}, "tool 'A' is offered more than once"),
        ({"tools": "Search"}, "tools"),
        ({"revision": "latest"}, "revision"),
    ],
)
def test_settings_are_checked_when_it_is_made(fields, why):
    """A misspelt or impossible setting is refused by name, not dropped."""
    with pytest.raises(ValueError, match=why):
        S3LoRAPlanner(**{"planner": "p", **fields})


def test_its_schemas_say_what_goes_in_and_comes_out(planner):
    """In: a text, or an object with a task; out: a Plan."""
    schema = planner.get_input_jsonschema()
    accepts = planner.get_input_schema().model_validate
    task = schema["$defs"]["PlannerTask"]
    assert (task["required"], {"tools", "max_steps", "evidence", "session"} <= task["properties"].keys()) == (
        ["task"],
        True,
    )
    assert [accepts("x").root, accepts({"task": "x"}).root.task] == ["x", "x"]
    with pytest.raises(ValueError, match="task"):
        accepts({"question": "x"})
    assert (planner.get_output_schema(), planner.OutputType) == (Plan, Plan)
    assert planner.get_graph().draw_mermaid().count("S3LoRAPlanner") >= 1


def test_it_can_be_configured_at_run_time(tmp_path):
    """``configurable_fields`` makes another one for the call."""
    from langchain_core.runnables import ConfigurableField

    with threaded_server(tmp_path, "p", "q") as server:
        planner = S3LoRAPlanner(base_url=server.url, planner="p", tools=["A"])
        either = planner.configurable_fields(planner=ConfigurableField(id="who"))
        plan = either.invoke("x", {"configurable": {"who": "q"}})
    assert plan.meta.planner == "q"


@pytest.mark.process
@pytest.mark.parametrize("absent", ["langchain_core", "langchain_openai"])
def test_a_missing_extra_is_named(absent):
    """Without LangChain the import says what to install."""
    name = "S3LoRAPlanner" if absent == "langchain_core" else "ChatS3LoRA"
    code = f"import sys; sys.modules[{absent!r}] = None\nfrom planners.langchain import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'{name} needs {absent}: pip install "s3lora-planners[langchain]"' in done.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("planners", {"httpx", "langchain_core", "tenacity", "torch", "s3lora_serve"}),
        ("planners.client", {"langchain_core", "openai", "torch", "s3lora_serve"}),
        ("planners.langchain.runnable", {"langchain_openai", "openai", "torch", "s3lora_serve"}),
    ],
)
def test_what_is_not_needed_is_not_imported(module, absent):
    """A fresh interpreter that imports the module has not loaded these."""
    code = f"import sys, {module}; print(*sorted({absent!r} & {{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
