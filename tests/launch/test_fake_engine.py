"""``s3lora-serve --engine fake``: the whole server without a model, apart from what is real."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fake_command import FAKE, run, s3lora, serving, write_fleet

from planners.client import PlannerClient
from s3lora_serve.config import Config
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.engine_choice import SECONDS_PER_TOKEN, for_engine, to_own

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
CONFIG = """\
base_model: ./base
planners:
  one: {source: one, policy: {top: 1}}
  two: {source: two, policy: {action: observe}}
engine: {max_loras: 3, max_lora_rank: 8, max_model_len: 512}
sources: {allow: [.]}
store: {path: store}
state: {path: state.db}
"""


@pytest.fixture
def folder(tmp_path):
    """A configuration with two planners, an adapter that none of them has, and the model's configuration."""
    return write_fleet(tmp_path, CONFIG, "one", "two", "new")


@pytest.fixture
def served(nursery, folder):
    """A server with the fake engine on free ports."""
    with serving(nursery, folder, *FAKE, "--port", "0", "--admin-port", "0") as server:
        server.folder = folder / "fake"  # where it wrote how to order
        yield server


def places(folder):
    """What lies in the folder beside what the tests' processes said."""
    return {path.name for path in folder.iterdir() if not path.name.startswith("said-")}


def test_it_serves_what_a_real_one_would(served):
    """Admitted as ever, and marked: in the banner, to clients, and in streams, which take their time."""
    assert re.search(r"^one +\w{12} +\d\.\d{3} +\d\.\d{3} +1 of 8 +serving", served.child.out, re.MULTILINE)
    assert "engine: fake (no model; every answer is made up and says so)" in served.child.out
    assert "engine: fake" in served.child.err.splitlines()[1]
    ready, headers = served.ask("/readyz")
    assert (ready["status"], ready["engine"], headers["x-s3lora-engine"]) == ("ready", "fake", "fake")
    models, _ = served.ask("/v1/models")
    assert [(m["engine"], m["max_model_len"]) for m in models["data"]] == [("fake", 512)] * 3
    with PlannerClient(served.url, planner="one") as client:
        plan = client.plan("Who was born first?", tools=["Search", "LLM"])
        streamed = sum(
            client.stream("Who was born first?", tools=["Search", "LLM"]), start=type(plan)(steps=())
        )
    assert [step.tool for step in plan.steps] == ["Search", "LLM"]
    assert (plan.meta.engine, streamed.steps, streamed.meta.engine) == ("fake", plan.steps, "fake")
    assert plan.meta.cost.time_per_output_token_seconds >= SECONDS_PER_TOKEN
    with urllib.request.urlopen(f"{served.url}/metrics") as answer:
        assert b's3lora_engine_info{engine="fake"} 1.0' in answer.read()


def test_it_takes_orders(served, folder):
    """Swap, rollback and canary change what answers, and are given as to a real server but for one option."""
    before = served.ask("/v1/planners/one")[0]["revision"]
    done = s3lora(folder, "swap", "one", str(folder / "new"), "--reason", "look")
    assert done.returncode == 0, done.stderr
    after = served.ask("/v1/planners/one")[0]["revision"]
    assert after != before
    assert s3lora(folder, "rollback", "one").returncode == 0
    assert served.ask("/v1/planners/one")[0]["revision"] == before
    assert s3lora(folder, "canary", "one", "--revision", after, "--share", "0.5").returncode == 0
    status = s3lora(folder, "status")
    assert "canary 0.5" in status.stdout
    assert "engine: fake" in status.stdout
    assert {p["engine"] for p in json.loads(s3lora(folder, "status", "--json").stdout)["planners"]} == {
        "fake"
    }
    plan = s3lora(folder, "plan", "Who?", "-p", "two", "--tools", "Search")
    assert "engine: fake" in plan.stderr
    assert s3lora(folder, "audit").returncode == 0


def test_changes_are_followed_until_it_stops(served, folder):
    """``/admin/events`` tells what is, then a swap as it happens; a stop of the server ends it at once."""
    token = {"Authorization": f"Bearer {served.access['token']}"}
    asked = urllib.request.Request(f"{served.access['url']}/admin/events", headers=token)
    with urllib.request.urlopen(asked, timeout=30) as stream:
        first = [next_event(stream) for _ in range(3)]
        assert [(kind, data.get("id")) for kind, data in first] == [
            ("engine", None),
            ("planner", "one"),
            ("planner", "two"),
        ]
        before = first[1][1]["revision"]
        served.done(served.order("planners/one/swap", {"source": str(folder / "new")}))
        seen = []
        while not seen or not (seen[-1][0] == "operation" and seen[-1][1]["ended"]):
            seen.append(next_event(stream))
        assert {data["revision"] for kind, data in seen if kind == "planner"} - {before}
        assert re.fullmatch(f"{before[:12]} → [0-9a-f]{{12}}", seen[-1][1]["summary"])
        began = time.monotonic()
        served.child.signal(signal.SIGTERM)
        stream.read()
    served.child.wait()
    assert time.monotonic() - began < 60  # half of plans.seconds


def next_event(stream):
    """Name and data of the next event; comments are passed over."""
    lines = []
    while not lines or lines[-1]:
        lines.append(stream.readline().decode().rstrip("\n"))
        if lines == [":", ""] or lines == [""]:
            lines = []
    fields = dict(line.split(": ", 1) for line in lines if line)
    return fields["event"], json.loads(fields["data"])


def test_what_options_changed_does_not_stand_in_the_way_of_an_apply(served, folder):
    """Ports and places that are not the file's are no change of the file; a planner that is new comes in."""
    assert "nothing to change" in s3lora(folder, "apply", "--dry-run").stdout
    text = (folder / "planners.yaml").read_text()
    (folder / "planners.yaml").write_text(text.replace("engine:", "  three: {source: new}\nengine:"))
    done = s3lora(folder, "apply")
    assert done.returncode == 0, done.stderr
    assert [planner["id"] for planner in served.ask("/v1/planners")[0]["data"]] == ["one", "two", "three"]


def test_it_keeps_apart_from_what_is_real(nursery, folder):
    """Both serve from one planners.yaml: the fake one leaves no trace where the real one has its own."""
    assert run(nursery, folder, *FAKE, "--check").code == 0
    assert places(folder) & {"store", "state.db"} == set()
    shutil.rmtree(folder / "fake")
    with serving(nursery, folder, "--port", "0", "--admin-port", "0") as real:
        before = places(folder)
        with serving(nursery, folder, *FAKE, "--port", "0", "--admin-port", "0"):
            assert places(folder) - before == {"fake"}
        assert real.order("planners")["data"][0]["generation"] == 1
    assert (folder / "store" / "engine").read_text() == "vllm\n"
    assert (folder / "fake" / "store" / "engine").read_text() == "fake\n"


@pytest.mark.parametrize("what", ["store", "state.db"])
@pytest.mark.parametrize("first", ["fake", "vllm"])
def test_it_never_serves_from_what_another_kind_used(nursery, folder, what, first):
    """If its place turns out to be another's, or the reverse, the start ends before anything is admitted."""
    ports = ("--port", "0", "--admin-port", "0")
    with serving(nursery, folder, *(FAKE if first == "fake" else ()), *ports) as server:
        server.child.signal(signal.SIGTERM)
        assert server.child.wait() == 0
    theirs, ours = folder / "fake" / what, folder / what
    if first == "fake":
        theirs.rename(ours)
    else:
        theirs.parent.mkdir()
        ours.rename(theirs)
    second = "vllm" if first == "fake" else "fake"
    done = run(nursery, folder, *(FAKE if second == "fake" else ()), *ports)
    place = ours if first == "fake" else theirs
    assert done.code == 1
    assert re.search(
        f"{place} was used with engine '?{first}'?, and this server has engine {second}", done.err
    )
    assert f"hint:  set {what.partition('.')[0]}.path" in done.err
    assert "✓" not in done.err


@pytest.mark.parametrize("setting", ["server.host", "admin.host"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "planners.example"])
def test_only_this_machine_is_answered(setting, host):
    """A client elsewhere cannot know that the engine is fake: the error names the setting."""
    section, name = setting.split(".")
    planners = {"p": {"source": "hf://o/p"}}
    config = Config.model_validate({"base_model": "demo", "planners": planners, section: {name: host}})
    with pytest.raises(ConfigError, match=f"{setting} is {host}, which others can reach, and engine fake"):
        for_engine(config, EngineKind.FAKE)
    assert for_engine(config, EngineKind.VLLM) is config


def test_an_option_is_no_way_out_of_this_machine(nursery, folder):
    """Nor is a key: it is refused before anything is fetched or bound."""
    done = run(nursery, folder, *FAKE, "--host", "0.0.0.0", S3LORA_API_KEY="a-secret")
    assert done.code == 2
    assert "server.host is 0.0.0.0, which others can reach, and engine fake answers this machine" in done.err
    assert not (folder / "fake").exists()


def test_its_places_lie_beside_the_real_ones():
    """In a separate folder, so that each has an admin.json."""
    path = Path("/var/lib/s3lora/state.db")
    assert to_own(path, EngineKind.FAKE) == Path("/var/lib/s3lora/fake/state.db")
    assert to_own(path, EngineKind.VLLM) == path


def test_the_demo_needs_no_model_and_no_vllm(tmp_path):
    """From planners.yaml as it is shipped: nothing is fetched, and what takes long to import is not."""
    text = (ROOT / "configs" / "planners.yaml").read_text().replace("../.s3lora", str(tmp_path))
    (tmp_path / "planners.yaml").write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith("S3LORA_")}
    options = ("--config", str(tmp_path / "planners.yaml"), *FAKE, "--port", "0", "--admin-port", "0")
    with (tmp_path / "err").open("w") as err, subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "s3lora_serve", *options],
        env={**env, "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "200"},
        stdout=subprocess.PIPE, stderr=err, text=True, cwd=ROOT,
    ) as server:  # fmt: skip
        try:
            url = next(
                match[1] for line in server.stdout if (match := re.search(r"Listening on (\S+)", line))
            )
            body = json.dumps({"planner": "hotpot-planner", "task": "Who was born first?"}).encode()
            asked = urllib.request.Request(f"{url}/v1/plans", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                plan = json.load(answer)
        finally:
            server.terminate()
            server.communicate(timeout=60)
    assert server.returncode == 0
    assert [step["tool"] for step in plan["steps"]] == ["Wikipedia", "LLM"]
    imported = set(re.findall(r"\| +(\w+)$", (tmp_path / "err").read_text(), re.MULTILINE))
    assert imported & {"vllm", "transformers", "gguf", "torch", "fastapi"} == {"torch", "fastapi"}
    assert not (tmp_path / "cache").exists()
