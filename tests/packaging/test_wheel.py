"""What `pip install` of the two built distributions brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from wheel_factory import write_index, write_wheel

from s3lora_serve import __version__
from s3lora_serve.demo import ADAPTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
CLIENT, SERVER = "planners", "s3lora_serve"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """By package: the wheel that this tree builds of it."""
    folder = tmp_path_factory.mktemp("wheels")
    building = ("wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT / "planners", ROOT)
    done = subprocess.run([*PIP, *building], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {CLIENT: "s3lora_planners", SERVER: "s3lora_serve"}
    paths = {package: folder / f"{name}-{__version__}-py3-none-any.whl" for package, name in built.items()}
    assert set(folder.iterdir()) == set(paths.values())
    return paths


@pytest.fixture(scope="module")
def files(wheels) -> dict[str, set[str]]:
    """By package: the files inside its wheel."""
    return {package: set(zipfile.ZipFile(path).namelist()) for package, path in wheels.items()}


@pytest.fixture
def names(files) -> set[str]:
    """The files inside the server's wheel."""
    return files[SERVER]


@pytest.mark.parametrize("package", [CLIENT, SERVER])
def test_each_package_is_whole(files, package):
    """Every source file of the tree is in its wheel, with the marker that makes its types count."""
    tree = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
    assert tree - files[package] == set()
    assert f"{package}/py.typed" in files[package]


def test_the_demo_adapters_are_inside(names):
    """demo:// sources work from a plain install: weights, configuration and model card of each."""
    files = ("adapter_config.json", "adapter_model.safetensors", "README.md")
    expected = {f"s3lora_serve/demo/adapters/{adapter}/{file}" for adapter in ADAPTERS for file in files}
    assert expected - names == set()


def test_the_questions_of_evaluations_are_inside(names):
    """`s3lora evaluate` can be tried from a plain install, and its page has its template and style."""
    files = {f"s3lora_serve/judging/sets/{file}" for file in ("attack.txt", "harmless.txt", "plans.jsonl")}
    families = ("attacks", "harmless", "tasks")
    files |= {f"s3lora_serve/judging/sets/families/{name}.jsonl" for name in families}
    files |= {f"s3lora_serve/evaluation/report/{file}" for file in ("page.html.jinja", "page.css")}
    assert files - names == set()


@pytest.mark.parametrize("package", [CLIENT, SERVER])
def test_nothing_else_is_inside(wheels, files, package):
    """No tests, caches, drafts or the other package: one package, the licence and the metadata."""
    info = f"{wheels[package].name.split('-')[0]}-{__version__}.dist-info"
    assert {name.split("/")[0] for name in files[package]} == {package, info}
    assert [name for name in files[package] if "__pycache__" in name] == []
    assert f"{info}/licenses/LICENSE" in files[package]
    kinds = {Path(name).suffix for name in files[CLIENT] if name.startswith("planners/")}
    assert kinds == {".py", ".typed"}, "how the client is built is not a part of it"


def test_the_commands_and_the_plugins_can_be_found():
    """pip makes `s3lora` and `s3lora-serve`, and vLLM finds each plugin in every process that it starts."""
    scripts = {
        e.name: e for e in entry_points(group="console_scripts") if e.value.startswith("s3lora_serve.")
    }
    assert sorted(scripts) == ["s3lora", "s3lora-serve"]
    assert all(callable(entry.load()) for entry in scripts.values())
    found = [e for e in entry_points(group="vllm.general_plugins") if e.value.startswith("s3lora_serve.")]
    plugins = {e.name: callable(e.load()) for e in found}
    assert plugins == {"s3lora_cpu_lora_fix": True, "s3lora_gpu_lora": True, "s3lora_process_group": True}


def test_one_version():
    """Both pyproject.toml, the package and what the server wants of the client say the same."""
    server, client = (
        tomllib.loads((ROOT / f / "pyproject.toml").read_text())["project"] for f in (".", CLIENT)
    )
    assert (server["version"], client["version"]) == (__version__, __version__)
    extras = server["optional-dependencies"]
    wanted = [r for r in (*server["dependencies"], *extras["langchain"], *extras["mcp"]) if "planners" in r]
    names = ("s3lora-planners", "s3lora-planners[langchain]", "s3lora-planners[mcp]")
    assert wanted == [f"{name}=={__version__}" for name in names]
    bounds = {r for r in client["dependencies"] if r in server["dependencies"]}
    assert bounds == set(client["dependencies"]), "both import these; one of them alone was raised"
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / CLIENT / "LICENSE").read_bytes()


def test_no_index_is_asked_for_either(tmp_path):
    """Both folders in one call, as make and the images do it: who holds these names in an index is not heard.

    The index here has a later and the same version of both, and all else that the server needs.
    """
    index = tmp_path / "index"
    server, client = (
        tomllib.loads((ROOT / f / "pyproject.toml").read_text())["project"] for f in (".", CLIENT)
    )
    wanted = [*server["dependencies"], *server["optional-dependencies"]["cpu"], *client["dependencies"]]
    for requirement in map(Requirement, [*wanted, *client["optional-dependencies"]["mcp"]]):
        (oldest,) = (s.version for s in requirement.specifier if s.operator in (">=", "=="))
        write_wheel(index, requirement.name, oldest)
    for name in ("s3lora-planners", "s3lora-serve"):
        write_wheel(index, name, __version__)
        write_wheel(index, name, "99.0")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": write_index(index)}
    options = ("--dry-run", "--ignore-installed", "--no-build-isolation", "--report", tmp_path / "report")
    command = [*PIP, "install", *options, "./planners", ".[cpu,mcp]"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report").read_text())["install"]
    places = {item["metadata"]["name"]: item["download_info"]["url"] for item in report}
    assert places["s3lora-planners"] == (ROOT / CLIENT).as_uri()
    assert places["s3lora-serve"] == ROOT.as_uri()
    assert places["mcp"].startswith(index.as_uri())


@pytest.fixture(scope="module")
def clean(wheels, tmp_path_factory) -> Path:
    """The Python of a new environment with both wheels, and what the client's own metadata ask for."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    into = ("--python", python, "install", "--no-deps", "--no-index", *wheels.values())
    done = subprocess.run([*PIP, *into], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for needed in needs(distribution("s3lora-planners", packages)):
        for top in {file.parts[0] for file in needed.files or () if ".." not in file.parts} - {"__pycache__"}:
            (packages / top).symlink_to(needed.locate_file(top))
    return python


def distribution(name: str, folder: Path) -> Distribution:
    """What is installed in ``folder`` under that name."""
    (found,) = Distribution.discover(name=name, path=[str(folder)])
    return found


def needs(start: Distribution) -> Iterator[Distribution]:
    """What an installation of ``start`` brings, without it: all that it asks for, and what that asks for."""
    waiting, seen = list(start.requires or ()), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        name = canonicalize_name(requirement.name)
        if wanted and name not in seen:
            seen.add(name)
            found = Distribution.from_name(requirement.name)
            waiting += found.requires or ()
            yield found


def test_the_client_alone_is_light(clean):
    """The client needs httpx, pydantic, tenacity and what these need by their metadata: small packages."""
    (packages,) = (clean.parents[1] / "lib").glob("python*/site-packages")
    client = distribution("s3lora-planners", packages)
    plain = {Requirement(r).name for r in client.requires if "extra ==" not in r}
    assert plain == {"httpx", "pydantic", "tenacity"}
    brought = {needed.name.lower() for needed in needs(client)}
    assert {"httpx", "pydantic", "tenacity"} <= brought
    assert brought & {"torch", "numpy", "transformers", "fastapi", "langchain-core", "mcp"} == set()
    assert len(brought) < 20


def test_both_wheels_serve_a_clean_environment(clean, tmp_path):
    """With nothing but what it declares, the client asks and reads a plan, the server's wheel beside it.

    What is an extra is named with the command that installs it.
    """
    code = f"""
import httpx, planners, s3lora_serve
from planners.client import PlannerClient
answer = {{"steps": [{{"id": "#E1", "thought": "t", "tool": "Search", "tool_input": "x"}}]}}
http = httpx.Client(transport=httpx.MockTransport(lambda asked: httpx.Response(200, json=answer)))
plan = PlannerClient(planner="p", http=http).plan("What?", ["Search"])
assert plan.to_rewoo().endswith("#E1 = Search[x]"), plan
assert s3lora_serve.__version__ == {__version__!r}
print(planners.__file__, s3lora_serve.__file__)
try:
    from planners.langchain import S3LoRAPlanner
except ImportError as error:
    print(error)
"""
    done = subprocess.run([clean, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    places, missing = done.stdout.splitlines()
    assert [place.startswith(str(clean.parents[1])) for place in places.split()] == [True, True]
    assert 'pip install "s3lora-planners[langchain]"' in missing
    told = subprocess.run([clean.with_name("s3lora-mcp")], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert 'pip install "s3lora-planners[mcp]"' in told.stderr
