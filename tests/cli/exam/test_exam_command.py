"""`s3lora exam`: what is asked of the server, what is shown, and the exit code of each verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exam_results import kept_exam
from stub_admin import NEW, OLD, error, operation, planner

from s3lora_serve.cli.fleet import admin_client, waiting
from s3lora_serve.safety.exam.utility import Utility


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses worth mentioning."""
    monkeypatch.setattr(waiting, "BREATH", 0.0)
    monkeypatch.setattr(admin_client, "PAUSE", 0.001)


def examined(verdict="passed", *, kept=False, stale=False, **changes):
    """An exam of ``math`` as the admin routes show it, done."""
    found = kept_exam(verdict, stale=stale, **changes).to_json()
    return operation(kind="exam", details={"kept": kept, "exam": found})


def entry(found, role="active"):
    """What GET /admin/exams says of one revision."""
    return {"planner": "math", "role": role, "revision": OLD, "source": "demo://x", "exam": found}


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("refused", 1), ("undecided", 3)])
def test_each_verdict_has_its_exit_code(s3lora, stub, verdict, code):
    """The table names verdict, counts and rise; the code is what a script branches on."""
    stub.steps = [operation("loading", kind="exam", progress="exam: 3 of 9 answers"), examined(verdict)]
    done = s3lora("exam", "math")
    assert done.code == code
    assert f"exam of math {NEW[:12]}: {verdict} on the public prompts" in done.out
    assert "attacks, as chats" in done.out
    (asked,) = stub.orders()
    assert (asked.path, asked.body) == ("/admin/planners/math/exam", {"reason": ""})


@pytest.mark.parametrize(
    ("against", "head", "decides"),
    [
        ("base", ["it", "base", "worse", "by"], "utility decides nothing here"),
        ("b" * 64, ["it", "b" * 12, "worse", "by"], f"more than 10 % worse than revision {'b' * 12}'s"),
    ],
)
def test_utility_stands_beside_what_it_is_compared_with(s3lora, stub, against, head, decides):
    """Each figure with the other's and how much worse it is; a sentence says what follows from that."""
    stub.steps = [examined(against=against, utility=(Utility("valid", 0.8, reference=1.0),))]
    lines = s3lora("exam", "math").out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("utility, without grammar"))
    assert lines[at].split()[3:] == head
    assert lines[at + 1].split() == ["valid", "0.800", "1.000", "20", "%"]
    assert any(decides in line for line in lines)


def test_waiting_for_an_exam_ends_with_its_code(s3lora, stub):
    """`s3lora wait` on the operation of a refusal fails as `s3lora exam` does."""
    stub.steps = [examined("refused")]
    assert s3lora("wait", "op-1").code == 1


def test_an_exam_that_failed_is_no_verdict(s3lora, stub):
    """An engine that died is exit code 1 with its message, and no table."""
    gone = {"code": "engine_dead", "message": "the engine stopped", "hint": "try again"}
    stub.steps = [operation("failed", kind="exam", error=gone)]
    done = s3lora("exam", "math")
    assert (done.code, done.out) == (1, "")
    assert "the engine stopped" in done.err


def test_json_is_the_operation(s3lora, stub):
    """All that the server says; the exit code stays the verdict's."""
    stub.steps = [examined("undecided")]
    done = s3lora("exam", "math", "--json")
    assert (done.code, json.loads(done.out)["details"]["exam"]["verdict"]) == (3, "undecided")


def test_a_source_is_examined_for_the_only_planner(s3lora, stub, tmp_path):
    """A folder of here is sent in full; policy and settings are those of the planner that there is."""
    (tmp_path / "adapter").mkdir()
    stub.routes["/admin/planners"] = (200, {"object": "list", "data": [planner()]})
    stub.steps = [examined()]
    assert s3lora("exam", "./adapter", "--reason", "new").code == 0
    (asked,) = stub.orders()
    body = {"source": str(tmp_path / "adapter"), "reason": "new"}
    assert (asked.path, asked.body) == ("/admin/planners/math/exam", body)


def test_a_source_needs_a_planner_among_several(s3lora, stub):
    """Each may have its own policy and exam: nothing is guessed; --planner says it."""
    stub.routes["/admin/planners"] = (200, {"object": "list", "data": [planner("a"), planner("b")]})
    refused = s3lora("exam", "demo://x")
    assert (refused.code, stub.orders()) == (2, [])
    assert "--planner a or b" in refused.err
    stub.steps = [examined()]
    assert s3lora("exam", "demo://x", "--planner", "b").code == 0
    assert stub.orders()[0].path == "/admin/planners/b/exam"


def test_a_revision_of_the_store_is_examined(s3lora, stub):
    """By its digest, for the planner that is named."""
    stub.steps = [examined()]
    assert s3lora("exam", "math", "--revision", NEW[:8]).code == 0
    assert stub.orders()[0].body == {"revision": NEW[:8], "reason": ""}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exam", "math", "--planner", "b"], "--planner belongs to a SOURCE"),
        (["exam", "demo://x", "--kept"], "--kept shows what is kept"),
        (["exam", "math", "--kept", "--revision", NEW], "--kept shows what is kept"),
        (["exam", "math", "--html", "page.html", "--no-wait"], "--html needs the end"),
        (["exam", "math", "--kept", "--no-wait"], "--kept asks nothing that could be waited for"),
        (["exam", "math", "--html", "nowhere/page.html"], "there is no folder nowhere"),
        (["exam", "demo://x", "--revision", NEW, "-p", "math"], "not both"),
        (["exam", "math", "--sha256", NEW], "--sha256 belongs to a SOURCE"),
        (["exam", ""], "SOURCE is empty"),
        (["exam", "./nowhere", "-p", "math"], "there is no folder ./nowhere"),
        (["exam", "Math"], "is not a planner's name"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_sent(s3lora, stub, arguments, said):
    """Exit code 2, the option named, and no order at the server."""
    done = s3lora(*arguments)
    assert (done.code, stub.orders()) == (2, [])
    assert said in done.err


def test_a_folder_without_a_slash_is_told_apart(s3lora, stub, tmp_path):
    """``adapter`` is a planner's name; if there is none, the error says how the folder is written."""
    (tmp_path / "adapter").mkdir()
    stub.routes["/admin/planners/adapter/exam"] = (404, error("unknown_planner", "there is no planner"))
    done = s3lora("exam", "adapter")
    assert (done.code, "for the folder write ./adapter" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (kept_exam("passed").to_json(), 0, "passed on the public prompts"),
        (kept_exam("refused").to_json(), 1, "refused on the public prompts"),
        (kept_exam("passed", stale=True).to_json(), 3, "by an exam that is stale"),
        (None, 3, "nothing is kept of an exam"),
    ],
)
def test_what_is_kept_is_shown_and_nothing_asked(s3lora, stub, found, code, said):
    """--kept reads only; a stale verdict is none about the questions of now."""
    listed = [entry(found), entry(None, "candidate")]
    stub.routes["/admin/exams"] = (200, {"object": "list", "data": listed})
    done = s3lora("exam", "math", "--kept")
    assert (done.code, stub.orders()) == (code, [])
    assert said in done.out + done.err
    assert s3lora("exam", "math", "--kept", "--html", "page.html").code == code
    assert Path("page.html").exists() is (found is not None)
    assert s3lora("exam", "math", "--kept", "--json").out == json.dumps(listed[0], indent=2) + "\n"


def test_a_kept_verdict_says_that_nothing_was_asked(s3lora, stub):
    """Ordered again, the same verdict comes back, and is told as what it is."""
    stub.steps = [examined("refused", kept=True, tries=4)]
    done = s3lora("exam", "math")
    assert done.code == 1
    assert "a revision keeps its verdict" in done.out
    assert "4 revisions of this source were examined" in done.out


def test_no_wait_leaves_once_it_has_begun(s3lora, stub):
    """Exit code 0: it has begun, and what it found is asked for later."""
    stub.steps = [operation("loading", kind="exam")]
    done = s3lora("exam", "math", "--no-wait")
    assert done.code == 0
    assert "s3lora wait op-1" in done.err


def test_an_answer_of_another_version_is_an_error(s3lora, stub):
    """No table of half a result."""
    stub.steps = [operation(kind="exam", details={"exam": {"verdict": "passed"}})]
    done = s3lora("exam", "math")
    assert done.code == 1
    assert "the server's exam cannot be read" in done.err


def test_the_page_is_written_with_the_verdict(s3lora, stub, tmp_path):
    """--html beside table and exit code; a failed exam leaves no page."""
    stub.steps = [examined("refused")]
    done = s3lora("exam", "math", "--html", "page.html")
    assert (done.code, "wrote page.html" in done.err) == (1, True)
    assert "Refused on the public prompts" in (tmp_path / "page.html").read_text()
    stub.steps = [operation("failed", kind="exam")]
    s3lora("exam", "math", "--html", "other.html")
    assert not (tmp_path / "other.html").exists()
