"""The container files, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import compose_spec
import pytest
import yaml

from s3lora_serve.config import load_config

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "docker" / name for name in ("Dockerfile.cpu", "Dockerfile.cuda")]
COMPOSE = ROOT / "docker" / "docker-compose.yml"


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined, comments left out."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def final_stage(path: Path) -> list[tuple[str, str]]:
    """The instructions from the last FROM on."""
    steps = instructions(path)
    return steps[max(i for i, (name, _) in enumerate(steps) if name == "FROM") :]


each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix[1:])


@pytest.mark.process
@each_dockerfile
def test_hadolint_finds_nothing(path):
    """Every exception is written next to the line it is for."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@each_dockerfile
def test_base_images_are_pinned(path):
    """A tag names a patch release, so that a rebuild next month starts from the same system."""
    images = [args.split()[0] for name, args in instructions(path) if name == "FROM"]
    assert len(images) == 2, "one stage builds, the other runs"
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+", image)] == []


@each_dockerfile
def test_the_server_does_not_run_as_root(path):
    """The last USER of the final stage is a numeric id, which an orchestrator can check to be non-root."""
    users = [args for name, args in final_stage(path) if name == "USER"]
    assert users == ["10001"]


@each_dockerfile
def test_the_container_reports_that_it_lives(path):
    """HEALTHCHECK asks /livez, with time for the engine to start.

    Not /readyz: a server that restarts its engine is unready for minutes, and killing it makes that longer.
    """
    (check,) = [args for name, args in final_stage(path) if name == "HEALTHCHECK"]
    assert "/livez" in check
    assert "/readyz" not in check
    assert seconds(re.search(r"--start-period=(\w+)", check)[1]) >= 300


def seconds(text):
    """Of a duration like 300s."""
    return int(text.removesuffix("s"))


@each_dockerfile
def test_nothing_secret_is_built_in(path):
    """Neither ENV nor ARG carries a key, and the image's own configuration needs one at run time."""
    names = [args for name, args in instructions(path) if name in ("ENV", "ARG")]
    assert [line for line in names if re.search(r"(?i)(key|token|secret|password)", line)] == []
    (command,) = [args for name, args in final_stage(path) if name == "CMD"]
    assert '"--host", "0.0.0.0"' in command


@each_dockerfile
def test_what_is_copied_exists_and_reaches_the_builder(path):
    """Every COPY source is in the repository and let through by .dockerignore."""
    allowed = [
        line[1:].strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    sources = [
        source
        for name, args in instructions(path)
        if name == "COPY" and "--from" not in args
        for source in args.split()[:-1]
    ]
    assert sources
    assert [s for s in sources if not (ROOT / s).exists()] == []
    assert [s for s in sources if not any(s == a or s.startswith(f"{a}/") for a in allowed)] == []


def test_the_images_configuration_is_valid():
    """The planners.yaml inside the images loads."""
    config = load_config(ROOT / "docker" / "planners.yaml")
    assert config.server.host == "127.0.0.1", "the host is given on the command line, next to the key's check"


def test_the_compose_file_fits_the_specification():
    """Keys, units, ports and volume names are valid, and both profiles exist."""
    options = compose_spec.PyOptions(apply_merge=True)
    compose = options.from_yaml(COMPOSE.read_text())
    compose.validate()
    assert sorted(compose.service_names()) == ["cpu", "gpu"]


def test_the_compose_services_are_closed_by_default():
    """Published on loopback, without capabilities, with a key that must be given from outside."""
    for service in yaml.safe_load(COMPOSE.read_text())["services"].values():
        assert service["ports"] == ["127.0.0.1:8000:8000"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert service["environment"]["S3LORA_API_KEY"].startswith("${S3LORA_API_KEY:?")


def test_the_compose_services_are_bounded():
    """Memory, processes and every folder that is not the volume have a limit; a killed engine is reaped."""
    for service in yaml.safe_load(COMPOSE.read_text())["services"].values():
        assert service["init"] is True
        assert re.fullmatch(r"\d+g", service["mem_limit"])
        assert 1024 <= service["pids_limit"] <= 8192
        assert [mount for mount in service["tmpfs"] if "size=" not in mount] == []


@each_dockerfile
def test_the_compose_services_can_write_where_the_image_does(path):
    """With a read-only root, /tmp and the user's home are in memory, and the work folder is the volume.

    The home belongs to the image's user, and so does the time that its health check gives the start.
    """
    compose = yaml.safe_load(COMPOSE.read_text())["services"]
    service = next(s for s in compose.values() if s["build"]["dockerfile"].endswith(path.name))
    steps = final_stage(path)
    (made,) = [found[1] for _, args in steps if (found := re.search(r"--home-dir (\S+)", args))]
    mounts = {mount.partition(":")[0]: mount for mount in service["tmpfs"]}
    assert set(mounts) == {"/tmp", made}
    assert "uid=10001,gid=10001" in mounts[made]
    (volume,) = [args for name, args in steps if name == "VOLUME"]
    assert f"state:{volume}" in service["volumes"]
    cache = " ".join(args for name, args in steps if name == "ENV")
    assert f"XDG_CACHE_HOME={volume}/" in cache
    (check,) = [args for name, args in steps if name == "HEALTHCHECK"]
    assert f"--start-period={service['healthcheck']['start_period']} " in check
    assert set(service["healthcheck"]) == {"start_period"}, "the rest is the image's"


def test_the_compose_services_build_files_that_exist():
    """Context and Dockerfile of each service are where the file says."""
    for service in yaml.safe_load(COMPOSE.read_text())["services"].values():
        context = COMPOSE.parent / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]).is_file()
