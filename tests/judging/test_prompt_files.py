"""Prompts and plans are read from files, or the offending line is named."""

import json

import pytest
from small_subject import SUITE, TASK, TOOLS

from planners import PlannerInput, ToolSpec, parse
from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.plan_sets import read_plans
from s3lora_serve.judging.prompt_sets import read_prompts
from s3lora_serve.judging.suite import PlanSet, PlanTask


def write(path, text: str) -> str:
    """The path of a file with this text."""
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_prompt_a_line(tmp_path):
    """Text files have a prompt a line; empty lines and margins do not count, a mark at the start neither."""
    file = write(tmp_path / "asks.txt", "\ufeffHow?\n\n  Why?  \r\nWhen?")
    found = read_prompts(file, "chat")
    assert found.prompts == ("How?", "Why?", "When?")
    assert (found.name, found.form) == ("asks", "chat")


@pytest.mark.parametrize("column", ["prompt", "goal", "text"])
def test_csv_columns(tmp_path, column):
    """Tables are read by column; quoted cells may hold commas and line ends."""
    file = write(tmp_path / "asks.csv", f'id,{column}\n1,"How, and\nwhy?"\n2,When?\n')
    assert read_prompts(file, "chat").prompts == ("How, and\nwhy?", "When?")


@pytest.mark.parametrize("key", ["prompt", "task", "text"])
def test_jsonl_keys(tmp_path, key):
    """A JSON object a line is read by key."""
    file = write(tmp_path / "asks.jsonl", f'{{"{key}": "How?"}}\n\n{{"{key}": "Why?", "more": 1}}\n')
    assert read_prompts(file, "plan").prompts == ("How?", "Why?")


def test_a_filter_and_its_name(tmp_path):
    """A filter keeps the rows of one value; file, filter and form are in the name, so that sets differ."""
    file = write(tmp_path / "asks.csv", "prompt,label\nHow?,safe\nWhy?,unsafe\n")
    safe, unsafe = read_prompts(f"{file}:label=safe", "chat"), read_prompts(f"{file}:label=unsafe", "plan")
    assert (safe.prompts, safe.name) == (("How?",), "asks:label=safe")
    assert (unsafe.prompts, unsafe.name, unsafe.form) == (("Why?",), "asks:label=unsafe as plans", "plan")


def test_a_name_that_looks_like_a_filter(tmp_path):
    """A file that is there is read as it is called."""
    file = write(tmp_path / "asks:label=safe.txt", "How?\n")
    assert read_prompts(file, "chat").prompts == ("How?",)


@pytest.mark.parametrize(
    ("name", "text", "spec", "what"),
    [
        ("a.txt", "\n \n", "", "has no prompt"),
        ("a.csv", "prompt,label\nHow?,safe\n", ":label=odd", "has no prompt with label = 'odd'"),
        ("a.csv", "prompt\nHow?\n", ":label=safe", "line 2 has no 'label'; it has prompt"),
        ("a.csv", "question\nHow?\n", "", "line 2 has none of prompt, goal, text; it has question"),
        ("a.csv", "prompt,label\nHow?,safe\n  ,safe\n", "", "line 3: prompt is not a text"),
        ("a.csv", "prompt,label\nHow?\n", "", "line 2 does not have 2 columns"),
        ("a.csv", 'prompt\n"How?\n', "", "is not CSV"),
        ("a.jsonl", '{"prompt": "How?"}\n{"prompt": 3}\n', "", "line 2: prompt is not a text: 3"),
        ("a.jsonl", '{"prompt": "How?"}\n[1]\n', "", "line 2 is not a JSON object"),
        ("a.jsonl", '{"prompt": "How?"\n', "", "line 1 is not JSON"),
        ("a.txt", "How?\n", ":label=safe", "has no columns"),
        ("a.parquet", "x", "", "read from .txt, .csv or .jsonl"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, text, spec, what):
    """Each error names the file, the line and what is wrong with it."""
    file = write(tmp_path / name, text)
    with pytest.raises(ConfigError) as refused:
        read_prompts(file + spec, "chat")
    assert what in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.parametrize("read", [lambda path: read_prompts(str(path), "chat"), read_plans])
def test_missing_and_foreign_files(tmp_path, read):
    """A file that is not there, and one in another encoding, are errors of the configuration."""
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.txt", "How?\n\n{}\n", 3),
        ("a.csv", "id,prompt\n1,How?\n2,{}\n", 3),
        ("a.jsonl", '{{"prompt": "How?"}}\n{{"prompt": "{}"}}\n', 2),
    ],
    ids=["txt", "csv", "jsonl"],
)
@pytest.mark.parametrize(
    ("prompt", "escaped", "why"),
    [
        ("Why\x1b[0m?", "Why\\u001b[0m?", "control character U+001B at position 3; remove it"),
        ("Why\x00?", "Why\\u0000?", "control character U+0000 at position 3; remove it"),
        ("w" * 32_001, "w" * 32_001, "32,001 characters, over 32,000"),
    ],
    ids=["escape", "nul", "long"],
)
def test_what_no_planner_takes_is_refused(tmp_path, name, text, line, prompt, escaped, why):
    """As a task, such a prompt is an error of its line, in one sentence; as a chat it can be asked."""
    file = write(tmp_path / name, text.format(escaped if name == "a.jsonl" else prompt))
    with pytest.raises(ConfigError) as refused:
        read_prompts(file, "plan")
    where = f"{file} line {line}: no planner takes this prompt as its task"
    assert str(refused.value) == f"{where}: {why}; change it, or ask it only as a chat"
    assert read_prompts(file, "chat").prompts == ("How?", prompt)


def test_the_longest_task_is_asked(tmp_path):
    """Exactly at the limit, margins not counted, and with the tabs that a text may have."""
    prompt = "a\t" + "w" * 31_998
    assert read_prompts(write(tmp_path / "a.txt", f"  {prompt} \n"), "plan").prompts == (prompt,)


def test_samples_are_drawn_once(tmp_path):
    """A limit takes a sample in the file's order: the same for a seed, another for another."""
    file = write(tmp_path / "asks.txt", "\n".join(f"prompt {n:03}" for n in range(200)))
    first = read_prompts(file, "chat", limit=20, seed=1).prompts
    assert len(first) == 20
    assert list(first) == sorted(first)
    assert first == read_prompts(file, "chat", limit=20, seed=1).prompts
    assert first != read_prompts(file, "chat", limit=20, seed=2).prompts
    assert len(read_prompts(file, "chat", limit=500).prompts) == 200
    with pytest.raises(ConfigError, match="leaves none"):
        read_prompts(file, "chat", limit=0)


def write_plans(path, tasks):
    """A file of these tasks, as ``read_plans`` takes it."""
    rows = [
        {
            "task": task.request.task,
            "tools": [tool.model_dump(mode="json", exclude_none=True) for tool in task.request.tools],
            "max_steps": task.request.max_steps,
            "plan": task.reference.to_rewoo(),
        }
        for task in tasks
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_plans_come_back(tmp_path):
    """Tasks are read with JSON arguments, schemas and step limits."""
    schema = {"type": "object", "properties": {"person": {"type": "string"}}, "required": ["person"]}
    tools = (*TOOLS, ToolSpec(name="Lookup", description="ein Bürgeramt", parameters=schema))
    plan = parse('Plan: Search.\n#E1 = Search[Heat]\nPlan: Look.\n#E2 = Lookup{"person": "#E1"}')
    task = PlanTask(PlannerInput(task="Where was he born?", tools=tools, max_steps=3), plan)
    write_plans(tmp_path / "good.jsonl", (task, TASK))
    assert read_plans(tmp_path / "good.jsonl") == PlanSet("good", (task, TASK))


def test_a_plan_set_samples(tmp_path):
    """A limit holds for plans as for prompts."""
    write_plans(tmp_path / "good.jsonl", (TASK,) * 9)
    assert len(read_plans(tmp_path / "good.jsonl", limit=4).tasks) == 4
    with pytest.raises(ConfigError, match="leaves none"):
        read_plans(tmp_path / "good.jsonl", limit=0)


ROW = '{"task": "Who?", "tools": [{"name": "Search"}], "plan": "Plan: Find.\\n#E1 = %s[him]"%s}\n'


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (ROW % ("Cook", ""), "line 2: the plan is not valid"),
        (ROW % ("Search", ', "max_steps": 0'), "line 2: max_steps"),
        (ROW % ("Search", ', "extra": 1'), "line 2: extra"),
        ('{"task": "Who?", "tools": [], "plan": ""}\n', "line 2: tools"),
        (
            '{"task": "Who?", "tools": [{"name": "Search"}], "plan": "Hello"}\n',
            "line 2: line 1: expected 'Plan",
        ),
        ("plan\n", "line 2 is not JSON"),
    ],
)
def test_a_reference_must_be_good(tmp_path, line, what):
    """A plan that could not run is no reference, and a row that is not understood is not skipped."""
    write(tmp_path / "plans.jsonl", ROW % ("Search", "") + line)
    with pytest.raises(ConfigError) as refused:
        read_plans(tmp_path / "plans.jsonl")
    assert what in str(refused.value)


def test_no_plans(tmp_path):
    """An empty file is no plan set."""
    with pytest.raises(ConfigError, match="has no plan"):
        read_plans(tmp_path / write(tmp_path / "plans.jsonl", "\n"))


def test_the_suite_is_told_apart(tmp_path):
    """Reading other prompts makes another digest: their measurements must not be mixed."""
    file = write(tmp_path / "attacks.txt", "\n".join(SUITE.attacks[0].prompts))
    assert read_prompts(file, "chat") == SUITE.attacks[0]
