"""Outside clients in their stock configuration, against vLLM's own application behind this server.

What they do is what `clients.yaml` and docs/compatibility.md say. Those that do not fit beside the packages
of vLLM, and the JavaScript ones, are there after `make client-packages`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_asyncio
from client_list import CLIENTS, HERE, USES
from fleet_factory import BASE, make_fleet
from live_server import listening
from system_programs import program
from vllm_app_engine import vllm_app_engine

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app

pytestmark = pytest.mark.process

NODE = 20  # the oldest that they were tried with
ROOT = HERE.parents[1]
SCRIPTED = [client for client in CLIENTS if client.script]
_LACKING = "is not installed: make client-packages (a package registry must be reachable)"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url(demo_base, tmp_path_factory):
    """Where planner p answers as a model would that keeps to its constraints and says the least."""
    engine = await vllm_app_engine(demo_base, BASE)
    fleet = make_fleet(tmp_path_factory.mktemp("clients"), "p", engine_type=engine)
    await fleet.start()
    async with listening(create_app(fleet.service, ServerConfig(), None)) as address:
        yield f"{address}/v1"
    await fleet.close()


def command(client):
    """What runs the client's script. Skips the test where it cannot run."""
    if client.home == "js":
        node = program("node", "nodejs")
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        if int(said.removeprefix("v").partition(".")[0]) < NODE:
            pytest.skip(f"node is {said.strip()}, and these clients need {NODE} or later")
        if not (HERE / "js" / "node_modules").is_dir():
            pytest.skip(f"tests/clients/js/node_modules {_LACKING}")
        return [node, str(HERE / "js" / f"{client.script}.mjs")]
    python = Path(sys.executable) if client.home == "project" else ROOT / ".clients" / "bin" / "python"
    if not python.exists():
        pytest.skip(f".clients {_LACKING}")
    if client.script == "curl_client":
        program("curl")
    return [str(python), str(HERE / "python" / f"{client.script}.py")]


@pytest.mark.parametrize("client", SCRIPTED, ids=lambda client: client.script)
async def test_a_client_does_what_is_said_of_it(url, client, tmp_path):
    """Every use works or is refused as the table says; none more, none less."""
    path = os.pathsep.join((str(HERE / "python"), str(ROOT / "tests" / "helpers" / "engines")))
    given = {"CLIENTS_URL": url, "OPENAI_API_KEY": "unused", "PYTHONPATH": path, "HOME": str(tmp_path)}
    running = await asyncio.create_subprocess_exec(
        *command(client),
        env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", **given},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(running.communicate(), 120)
    finally:
        if running.returncode is None:
            running.kill()
    assert out.strip(), err.decode()[-2000:]
    told = json.loads(out.splitlines()[-1])
    failed = {use: why for use, why in told.items() if why and use not in client.refused}
    assert failed == {}
    assert set(told) == {*client.works, *client.refused}
    for use, refusal in client.refused.items():
        assert refusal.error in told[use], use


def test_what_is_said_of_clients_is_whole():
    """Every script is a client's, each use is said once, and at least 25 clients are tried."""
    scripts = {path.stem for path in (*(HERE / "python").glob("*.py"), *(HERE / "js").glob("*.mjs"))}
    assert scripts - {"asked"} == {client.script for client in SCRIPTED}
    assert len(SCRIPTED) >= 25
    for client in CLIENTS:
        said = [*client.works, *client.refused, *client.lacks]
        assert (len(said), set(said) <= set(USES)) == (len(set(said)), True), client.name
