"""Orders name sources: refused before anything is written down, and written down without their secrets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from adapter_web import adapter_web
from fleet_factory import Shelf, desired, make_fleet
from orders import canary, order, swap

from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.adapters.fetch.reach import EVERYWHERE, Reach
from s3lora_serve.adapters.fetch.sources import fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import SourceError, SourceNotAllowed
from s3lora_serve.fleet.planner import DesiredPlanner
from s3lora_serve.launch.admit_all import StoreAdmission
from s3lora_serve.spectral.prune_policy import PrunePolicy

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t%2Fsignature"
QUERY = f"sig={SECRET}&se=2026"


class Fetching(Shelf):
    """A shelf that first fetches what a web server has, and permits what a server would."""

    reach = EVERYWHERE

    def permit(self, wanted: Wanted) -> None:
        """As the real one."""
        StoreAdmission(None, None, None, self.reach).permit(wanted)  # type: ignore[arg-type]

    def admit(self, planner, wanted, progress):
        """What is fetched counts as ``new``."""
        if (source := Source.parse(str(wanted.source))).place.scheme == "http":
            fetch(source, self.root / "copy", LimitsConfig(), reach=self.reach)
            return self.revisions["new"]
        return super().admit(planner, wanted, progress)


@pytest.fixture
async def fleet(tmp_path: Path):
    """Planner p; whatever a web server has becomes the revision of ``new``."""
    fleet = make_fleet(tmp_path, "p", shelf=Fetching(tmp_path))
    fleet.shelf.put("new")
    await fleet.start()
    yield fleet
    await fleet.close()


@pytest.fixture
def web():
    """An adapter behind a signature."""
    files = {"/a/adapter_config.json": b"{}", "/a/adapter_model.safetensors": b"weights"}
    with adapter_web(files, signature=QUERY) as web:
        yield web


def written(fleet) -> bytes:
    """Every byte beside the state file."""
    return b"".join(file.read_bytes() for file in fleet.service.journal.path.parent.glob("state.db*"))


def leaks(text: bytes | str) -> list[str]:
    """Forms of the secret that stand in it."""
    raw = text if isinstance(text, bytes) else text.encode()
    return [form for form in (SECRET, "s3cr3t/signature", "s3cr3t") if form.encode() in raw]


async def test_a_signature_is_nowhere_but_in_the_request(fleet, web, caplog):
    """Not in the state file, after success and after failure; nor in log, operation or history."""
    caplog.set_level(logging.DEBUG)
    good, bad = f"{web.url}/a?{QUERY}", f"{web.url}/a?{QUERY}-expired"
    checked = await swap(fleet, "p", good, dry_run=True)
    failed = await swap(fleet, "p", bad)
    tried = await canary(fleet, "p", bad)
    done = await swap(fleet, "p", good)
    assert [op.step for op in (checked, failed, tried, done)] == [
        Step.DONE,
        Step.FAILED,
        Step.FAILED,
        Step.DONE,
    ]
    assert "answers 403" in failed.error["message"]
    assert f"/a/adapter_config.json?{QUERY}" in web.asked  # the secret did go where it belongs
    assert done.details["wanted"]["source"] == f"{web.url}/a"
    told = [
        *fleet.control.operations(),
        *fleet.service.journal.entries(),
        *fleet.service.planners(),
        caplog.text,
    ]
    assert leaks(repr(told)) == []
    assert leaks(written(fleet)) == []
    assert f"{web.url}/a".encode() in written(fleet)


async def test_a_signed_source_in_the_file_is_nowhere_else(fleet, web):
    """Of an apply: the difference shows the address, and digests tell two signatures apart."""
    declared = {"p": DesiredPlanner.of(f"{web.url}/a?{QUERY}", PrunePolicy())}
    done = await fleet.done(await fleet.control.apply(declared, order()))
    assert done.step is Step.DONE
    (change,) = done.details["changes"]
    assert change["after"]["source"] == f"{web.url}/a"
    assert len(change["after"]["source_digest"]) == 64
    assert leaks(written(fleet)) == []


async def test_the_same_order_is_the_same_order(fleet, web):
    """A key that is used again: known with the same signature, a conflict with another."""
    wanted = Wanted(source=f"{web.url}/a?{QUERY}")
    first = await fleet.done(await fleet.control.swap("p", wanted, order(key="k")))
    assert (await fleet.control.swap("p", wanted, order(key="k"))).id == first.id
    with pytest.raises(Exception, match="was used for another order"):
        await fleet.control.swap("p", Wanted(source=f"{web.url}/a?{QUERY}&x=1"), order(key="k"))


@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_is_refused_leaves_no_trace(fleet, tmp_path, caplog, dry_run):
    """Neither operation nor entry, in a dry run too: the same for what is there and what is not."""
    fleet.shelf.reach = Reach()
    before, told = fleet.service.journal.head(), set()
    (tmp_path / "there").mkdir()
    for name in ("there", "gone"):
        with pytest.raises(SourceNotAllowed) as caught:
            await fleet.control.swap("p", Wanted(source=str(tmp_path / name)), order(), dry_run=dry_run)
        told.add(str(caught.value).replace(name, "*"))
        with pytest.raises(SourceNotAllowed):
            await fleet.control.canary("p", Wanted(source=str(tmp_path / name)), order())
    with pytest.raises(SourceError, match="must not hold a user or a password"):
        await fleet.control.swap("p", Wanted(source=f"https://me:{SECRET}@host/a"), order(), dry_run=dry_run)
    assert len(told) == 1
    assert fleet.control.operations() == []
    assert fleet.service.journal.head() == before
    assert leaks(written(fleet)) == []
    assert leaks(caplog.text) == []


async def test_what_the_file_names_may_be_ordered(fleet):
    """Its planners' own folders, as they are declared now: an apply may have changed them."""
    fleet.shelf.reach = Reach()
    assert (await swap(fleet, "p", "p")).step is Step.DONE
    with pytest.raises(SourceNotAllowed):
        await fleet.control.swap("p", Wanted(source="new"), order())
    done = await fleet.done(await fleet.control.apply({"p": desired("new")}, order()))
    assert done.step is Step.DONE
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    with pytest.raises(SourceNotAllowed):
        await fleet.control.swap("p", Wanted(source="p"), order())


def test_a_fingerprint_is_what_it_was():
    """Keys that were used before this release still name their orders."""
    from s3lora_serve.control.operation import Kind, Order, fingerprint

    old = fingerprint(Kind.SWAP, "p", Order("a"), Wanted("hf://o/n", "a" * 64), dry_run=False, force=False)
    assert old == "bf92ff789c0c6b2718887ca7f1dff5f7d5f14883583a04180e221f77c5bb62c1"
