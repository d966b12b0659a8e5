"""Published revisions are found again, never change, and say so when they were changed."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest
from adapters_factory import adapter_limits
from peft_builder import BASE, write_folder

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.lineage import Lineage, Revision
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.errors import StoreError
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> RevisionStore:
    """An empty store."""
    return RevisionStore(tmp_path / "store")


def publish(store: RevisionStore, tmp_path: Path, tau: int = 3) -> Revision:
    """A revision of a small adapter with ``tau`` modules pruned."""
    source = write_folder(tmp_path / "source")
    return admit(
        str(source), base=BASE, policy=PrunePolicy(rule=Top(tau)), limits=adapter_limits(), store=store
    )


def test_a_revision_is_got_as_it_was_published(store: RevisionStore, tmp_path: Path):
    """Also by another process, which sees only the disk."""
    revision = publish(store, tmp_path)
    assert RevisionStore(tmp_path / "store").get(revision.digest) == revision
    assert store.list() == (revision,)
    assert store.check(revision.digest) == revision
    assert revision.short == revision.digest[:12]
    assert revision.lineage.digest == revision.digest == revision.path.name


def test_a_lineage_survives_json(store: RevisionStore, tmp_path: Path):
    """Every field, its type included."""
    lineage = publish(store, tmp_path).lineage
    assert Lineage.from_json(json.loads(json.dumps(lineage.to_json()))) == lineage


def test_published_files_are_read_only(store: RevisionStore, tmp_path: Path):
    """vLLM reads them again from the disk while requests are in flight."""
    revision = publish(store, tmp_path)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in revision.path.iterdir()}
    assert modes == dict.fromkeys(
        ["adapter_config.json", "adapter_model.safetensors", "lineage.json"], "0o444"
    )
    assert revision.path.stat().st_mode & 0o055 == 0o055


def test_time_is_no_part_of_the_identity(store: RevisionStore, tmp_path: Path):
    """Nor is the report: two machines must agree on the digest, whatever the last digit of a score."""
    lineage = publish(store, tmp_path).lineage
    data = lineage.to_json()
    other = Lineage.from_json(
        data | {"created_at": "2020-01-01T00:00:00+00:00", "source": "file:///elsewhere"}
    )
    assert other.digest == lineage.digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights_sha256", "0" * 64),
        ("config", {"r": 1}),
        ("pruned", ["x"]),
        ("policy", {"scorer": "svd"}),
        ("scorer", "svd"),
        ("scorer_version", "0"),
        ("base_digest", "0" * 64),
    ],
)
def test_what_is_served_and_why_is_the_identity(
    store: RevisionStore, tmp_path: Path, field: str, value: object
):
    """Each of these makes another revision."""
    lineage = publish(store, tmp_path).lineage
    assert Lineage.from_json(lineage.to_json() | {field: value}).digest != lineage.digest


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "lineage.json"])
@pytest.mark.parametrize("how", ["byte", "cut", "gone", "folder", "pipe", "circle"])
def test_tampering_is_found(store: RevisionStore, tmp_path: Path, name: str, how: str):
    """One bit, a truncated file, a missing file: check says which revision and which file."""
    revision = publish(store, tmp_path)
    path = revision.path / name
    path.chmod(0o644)
    raw = path.read_bytes()
    match how:
        case "byte" if name == "lineage.json":
            path.write_bytes(raw.replace(b'"kept": 11', b'"kept": 11, "x": 1'))
        case "byte":
            path.write_bytes(raw[:-2] + bytes([raw[-2] ^ 1]) + raw[-1:])
        case "cut":
            path.write_bytes(raw[:-10])
        case _:
            path.unlink()
            {
                "folder": path.mkdir,
                "pipe": partial(os.mkfifo, path),
                "circle": partial(path.symlink_to, path),
            }.get(how, int)()
    for look in (store.check, store.get) if how not in ("byte", "cut") else (store.check,):
        with pytest.raises(StoreError, match=f"revision {revision.short}: .*{name}") as caught:
            look(revision.digest)
    assert "admit the adapter again" in caught.value.hint


@pytest.mark.parametrize("field", ["policy", "pruned", "weights_sha256", "config", "base_digest"])
def test_a_lineage_that_tells_another_story_is_found(store: RevisionStore, tmp_path: Path, field: str):
    """The digest binds what was done to the adapter, not only its bytes."""
    revision = publish(store, tmp_path)
    path = revision.path / "lineage.json"
    path.chmod(0o644)
    data = json.loads(path.read_bytes())
    data[field] = {"policy": {}, "config": {}, "pruned": []}.get(field, "0" * 64)
    path.write_text(json.dumps(data))
    with pytest.raises(StoreError, match=f"revision {revision.short}: "):
        store.check(revision.digest)


def test_an_added_file_is_found(store: RevisionStore, tmp_path: Path):
    """vLLM would look for other files beside the weights."""
    revision = publish(store, tmp_path)
    (revision.path / "adapter_model.bin").write_bytes(b"?")
    with pytest.raises(StoreError, match=r"'adapter_model\.bin' was not published"):
        store.check(revision.digest)


def test_a_visibly_damaged_revision_is_not_given_out(store: RevisionStore, tmp_path: Path):
    """A missing or truncated file is seen without reading the weights."""
    revision = publish(store, tmp_path)
    (revision.path / "adapter_model.safetensors").unlink()
    with pytest.raises(StoreError, match=r"adapter_model\.safetensors is missing"):
        store.get(revision.digest)
    with pytest.raises(StoreError, match=r"adapter_model\.safetensors is missing"):
        publish(store, tmp_path)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("keys", ["known", "forgotten"])
def test_admission_refuses_a_revision_that_was_tampered_with(
    store: RevisionStore, tmp_path: Path, name: str, keys: str
):
    """Bytes changed at equal size are neither served nor silently replaced: the revision is named."""
    revision = publish(store, tmp_path)
    path = revision.path / name
    path.chmod(0o644)
    raw = path.read_bytes()
    path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    tampered = path.read_bytes()
    if keys == "forgotten":
        for key in (tmp_path / "store/keys").iterdir():
            key.unlink()
    with pytest.raises(StoreError, match=f"revision {revision.short}: {name}") as caught:
        publish(store, tmp_path)
    assert "admit the adapter again" in caught.value.hint
    assert path.read_bytes() == tampered


def test_a_lineage_of_a_later_release_is_named(store: RevisionStore, tmp_path: Path):
    """A downgrade must not misread what a newer release wrote."""
    revision = publish(store, tmp_path)
    path = revision.path / "lineage.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(StoreError, match="its format is 99, this release reads 1"):
        store.get(revision.digest)


@pytest.mark.parametrize("digest", ["", "..", "../keys", "a" * 63, "A" * 64, "g" * 64, "/etc/passwd"])
def test_only_digests_name_revisions(store: RevisionStore, digest: str):
    """Names come from clients; none may reach another folder."""
    with pytest.raises(StoreError, match="is not a revision: expected 64 hex digits"):
        store.get(digest)


def test_an_unknown_revision_says_so(store: RevisionStore):
    """By its short name."""
    with pytest.raises(StoreError, match="revision aaaaaaaaaaaa is not in the store"):
        store.get("a" * 64)


def test_a_forgotten_key_is_no_loss(store: RevisionStore, tmp_path: Path):
    """Keys are a cache: without them the same revision comes out of a second admission."""
    revision = publish(store, tmp_path)
    (key,) = (tmp_path / "store/keys").iterdir()
    assert store.find(key.name) == revision
    key.unlink()
    assert store.find(key.name) is None
    assert publish(store, tmp_path) == revision


@pytest.mark.parametrize("how", ["folder", "pipe", "no text", "another folder"])
def test_a_key_that_is_none_is_no_loss(store: RevisionStore, tmp_path: Path, how: str):
    """Whatever became of it."""
    publish(store, tmp_path)
    (key,) = (tmp_path / "store/keys").iterdir()
    key.unlink()
    match how:
        case "folder":
            key.mkdir()
        case "pipe":
            os.mkfifo(key)
        case "no text":
            key.write_bytes(b"\xff\xfe")
        case _:
            key.write_text("../../keys")
    assert store.find(key.name) is None


def test_a_lineage_that_is_nested_too_deeply_is_damage(store: RevisionStore, tmp_path: Path):
    """As every other one that cannot be read."""
    revision = publish(store, tmp_path)
    path = revision.path / "lineage.json"
    path.chmod(0o644)
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(StoreError, match=f"revision {revision.short}: .*RecursionError"):
        store.get(revision.digest)


def test_a_key_of_a_removed_revision_finds_nothing(store: RevisionStore, tmp_path: Path):
    """Removing a revision's folder is all it takes to remove it."""
    import shutil

    revision = publish(store, tmp_path)
    shutil.rmtree(revision.path)
    (key,) = (tmp_path / "store/keys").iterdir()
    assert store.find(key.name) is None
    assert publish(store, tmp_path).digest == revision.digest


def test_revisions_are_listed_oldest_first(store: RevisionStore, tmp_path: Path):
    """In the order of admission."""
    revisions = [publish(store, tmp_path, tau) for tau in (3, 1, 2)]
    assert store.list() == tuple(revisions)


def test_staging_is_removed_with_its_contents(store: RevisionStore, tmp_path: Path):
    """Also when the work in it fails."""

    def fail() -> None:
        with store.staging() as folder:
            (folder / "x").write_text("x")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list((tmp_path / "store/staging").iterdir()) == []


def test_leftovers_are_swept_unless_somebody_stages(store: RevisionStore, tmp_path: Path):
    """Opening the store while an admission runs must not pull its files away."""
    left = tmp_path / "store/staging/left"
    left.mkdir()
    with store.staging() as folder:
        RevisionStore(tmp_path / "store")
        assert folder.is_dir()
        assert left.is_dir()
    RevisionStore(tmp_path / "store")
    assert not left.exists()


def test_a_store_that_cannot_be_written_to_says_so(tmp_path: Path):
    """At the start, not at the first admission."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"store .*file/store: ") as caught:
        RevisionStore(tmp_path / "file/store")
    assert "store.path" in caught.value.hint
