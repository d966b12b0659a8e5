"""Adapters on the Hub, through the real client, against a Hub of our own on localhost and from its cache."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import huggingface_hub
import pytest
import torch
from adapter_files import NEEDED
from evidence_files import weights_of, write_checkpoint
from huggingface_hub import constants
from peft_builder import BASE, write_folder
from safetensors.torch import save

from s3lora_serve.adapters.convert.conversion import convert
from s3lora_serve.adapters.evidence.checkpoints import Checkpoint
from s3lora_serve.adapters.fetch.sources import fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import ConfigError, LimitError, SourceError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "c0ffee" * 6 + "beef"


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``files`` (path → bytes) as the repository org/name, whose main branch is COMMIT."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.failures = 0  # how many of the next downloads break


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, files = urlsplit(self.path).path, list(self.server.files.items())
        self.server.asked.append(f"{self.command} {path}")
        if path in (
            "/api/models/org/name",
            f"/api/models/org/name/revision/{COMMIT}",
            "/api/models/org/name/revision/main",
        ):
            siblings = [{"rfilename": name, "size": len(raw)} for name, raw in files]
            self._answer(200, json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"/api/models/org/name/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": n, "size": len(raw), "oid": f"{i:040}"}
                for i, (n, raw) in enumerate(files)
            ]
            self._answer(200, json.dumps(tree).encode())
        elif path.startswith("/api/models/org/name/revision/"):
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/"):
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.command == "GET" and self.server.failures:
            self.server.failures -= 1
            self._answer(503, b"busy")
        else:
            raw = self.server.files[path.removeprefix(f"/org/name/resolve/{COMMIT}/")]
            self._answer(200, raw, {"X-Repo-Commit": COMMIT, "ETag": f'"{abs(hash(raw))}"'})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running Hub with one adapter in its root, an empty local cache, and no patience."""
    server = Hub()
    source = write_folder(tmp_path / "source")
    server.files = {path.name: path.read_bytes() for path in source.iterdir()}
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def contents(folder: Path) -> dict[str, bytes]:
    """File name → bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("address", ["hf://org/name", "hf://org/name@main", f"hf://org/name@{COMMIT}"])
def test_an_adapter_is_fetched_at_a_commit(tmp_path: Path, hub: Hub, address: str):
    """The address in the lineage names the commit, so that a moving branch leaves a fixed trace."""
    fetched = fetch(address, tmp_path / "copy", LimitsConfig())
    assert contents(fetched.folder) == hub.files
    assert fetched.uri == f"hf://org/name@{COMMIT}"
    assert not any(path.is_symlink() for path in fetched.folder.iterdir())


def test_a_folder_inside_a_repository_is_fetched(tmp_path: Path, hub: Hub):
    """Several adapters in one repository is usual; the files of the others do not count."""
    hub.files = {f"planners/{name}": raw for name, raw in hub.files.items()} | {
        "x.bin": b"?",
        "planners/a/b": b"",
    }
    fetched = fetch("hf://org/name@main/planners", tmp_path / "copy", LimitsConfig(max_files=2))
    assert contents(fetched.folder) == {name: hub.files[f"planners/{name}"] for name in NEEDED}
    assert fetched.uri == f"hf://org/name@{COMMIT}/planners"


def test_only_the_two_known_files_are_downloaded(tmp_path: Path, hub: Hub):
    """A pickle beside them is not even asked for."""
    hub.files["training_args.bin"] = b"?"
    fetched = fetch("hf://org/name", tmp_path / "copy", LimitsConfig())
    assert not [line for line in hub.asked if "training_args" in line]
    assert fetched.warnings == ("training_args.bin is a pickle: ignored, never opened",)


def test_a_pickle_is_refused_undownloaded(tmp_path: Path, hub: Hub):
    """The listing is enough."""
    hub.files = {"adapter_config.json": b"{}", "adapter_model.bin": b"?"}
    with pytest.raises(UnsafeFileError, match=r"adapter_model\.bin is a pickle"):
        fetch("hf://org/name", tmp_path / "copy", LimitsConfig())
    assert not [line for line in hub.asked if "resolve" in line]


def test_an_adapter_over_the_limit_is_refused_undownloaded(tmp_path: Path, hub: Hub):
    """The Hub says how large it is; nothing of that size enters the cache."""
    size = len(hub.files[NEEDED[1]])
    with pytest.raises(LimitError, match=rf"adapter_model\.safetensors has {size} bytes > 2000 bytes"):
        fetch("hf://org/name", tmp_path / "copy", LimitsConfig(max_adapter_mib=2000 / 2**20))
    assert not [line for line in hub.asked if NEEDED[1] in line]


def test_a_busy_hub_is_asked_again(tmp_path: Path, hub: Hub):
    """Two failures, then the file."""
    hub.failures = 2
    assert contents(fetch("hf://org/name", tmp_path / "copy", LimitsConfig()).folder) == hub.files


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_the_local_cache_serves_when_the_hub_does_not(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str
):
    """After one download, the same address gives the same commit without a network."""
    first = fetch("hf://org/name", tmp_path / "one", LimitsConfig())
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        hub.shutdown()
        hub.server_close()
    asked = len(hub.asked)
    second = fetch("hf://org/name", tmp_path / "two", LimitsConfig())
    assert (second.uri, second.sha256) == (first.uri, first.sha256)
    assert contents(second.folder) == contents(first.folder)
    assert len(hub.asked) == asked


def test_offline_without_a_copy_says_so(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    """With the reason and what to do."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        SourceError, match=r"the Hub does not answer .*, and the local cache has no copy"
    ) as caught:
        fetch("hf://org/name", tmp_path / "copy", LimitsConfig())
    assert "local folder" in caught.value.hint


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://org/other", "hf://org/other: no such repository, or it is private"),
        ("hf://org/name@nowhere", "hf://org/name@nowhere: there is no such revision"),
        ("hf://name", "'hf://name' is not a Hub address"),
        ("hf://org/name@main/../..", "'hf://org/name@main/../..' is not a Hub address"),
        ("hf://org/name?x", "hf://org/name: only http:// and https:// take a query"),
    ],
)
def test_wrong_addresses_say_so(tmp_path: Path, hub: Hub, address: str, message: str):
    """A typo is told from a lack of access as far as the Hub tells."""
    with pytest.raises(SourceError) as caught:
        fetch(address, tmp_path / "copy", LimitsConfig())
    assert caught.value.message.startswith(message)


def serve_model(hub: Hub, folder: Path, **options: object) -> None:
    """Let the Hub hold a base model in place of the adapter, with files beside it that are no weights."""
    write_checkpoint(folder, weights_of(BASE.shapes, seed=1), config={"model_type": "llama"}, **options)
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.files |= {"pytorch_model.bin": b"pickle", "original/consolidated.safetensors": b"twice as large"}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_checkpoint_is_downloaded_at_a_commit(tmp_path: Path, hub: Hub, shards: int, revision: str | None):
    """Its configuration and the weights that its index names, nothing else of what the repository holds."""
    serve_model(hub, tmp_path / "model", shards=shards)
    found = Checkpoint.open("org/name", revision)
    assert found.uri == f"hf://org/name@{COMMIT}"
    assert found.digest == Checkpoint.open(str(tmp_path / "model")).digest
    assert (found.folder / "config.json").is_file()
    assert not (found.folder / "pytorch_model.bin").exists()
    assert not (found.folder / "original").exists()


def test_a_checkpoint_comes_from_the_cache_when_the_hub_is_away(tmp_path: Path, hub: Hub):
    """At the commit that was downloaded; without a copy it is an error that says so."""
    serve_model(hub, tmp_path / "model", shards=2)
    digest = Checkpoint.open("org/name").digest
    hub.shutdown()
    hub.server_close()
    assert Checkpoint.open("org/name").digest == digest
    with pytest.raises(ConfigError, match=r"the Hub does not answer .* and the local cache has no copy"):
        Checkpoint.open("org/other")


def test_a_checkpoint_that_the_hub_has_not_is_named(hub: Hub):
    """A repository without weights of this kind, a missing one, and what is no id at all."""
    with pytest.raises(ConfigError, match=r"checkpoint org/name has no model.safetensors"):
        Checkpoint.open("org/name")
    with pytest.raises(ConfigError, match=r"checkpoint org/absent: .* no such repository"):
        Checkpoint.open("org/absent")
    with pytest.raises(ConfigError, match="checkpoint a/b/c: ") as caught:
        Checkpoint.open("a/b/c")
    assert caught.value.hint == "start a folder with './' or '/'"


def test_an_adapter_of_another_format_is_converted_from_the_hub(tmp_path: Path, hub: Hub):
    """Its two files alone are asked for; one over the limit is not downloaded."""
    config = {"fine_tune_type": "lora", "lora_parameters": {"scale": 2.0}}
    tensors = {"m.q_proj.lora_a": torch.ones(4, 2), "m.q_proj.lora_b": torch.ones(2, 4)}
    hub.files = {
        "adapter_config.json": json.dumps(config).encode(),
        "adapters.safetensors": save(tensors),
        "README.md": b"?",
    }
    with pytest.raises(LimitError, match=r"raise limits\.max_adapter_mib"):
        convert("hf://org/name", tmp_path / "new", LimitsConfig(max_adapter_mib=0.0001))
    assert not [line for line in hub.asked if "resolve" in line]
    assert convert("hf://org/name", tmp_path / "new", LimitsConfig()).tensors == 2
    assert not [line for line in hub.asked if "README" in line]
    with pytest.raises(SourceError, match="no such repository"):
        convert("hf://org/other", tmp_path / "newer", LimitsConfig())
