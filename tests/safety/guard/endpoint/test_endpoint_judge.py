"""A guard model elsewhere as a judge: what it is asked, and what becomes of every way of failing."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager

import pytest
from guard_questions import SECRET, TASK, by_endpoint, framed, question
from guard_web import guard_web

from s3lora_serve.safety.guard.allowance import Allowance
from s3lora_serve.safety.guard.endpoint.endpoint_judge import MOST, EndpointJudge
from s3lora_serve.safety.guard.endpoint.guard_route import MAX_ANSWER, MAX_SENT, GuardRoute
from s3lora_serve.safety.guard.endpoint.small_reads import AT_ONCE
from s3lora_serve.safety.guard.guard_question import Part
from s3lora_serve.safety.guard.ruling import Found

KEY = "sk-the-key-of-the-endpoint"


@asynccontextmanager
async def judging(url, kind="llama-guard", remembered=None, **changes):
    settings = by_endpoint(url, kind, **changes)
    async with GuardRoute(settings.endpoint, KEY, settings.seconds) as route:
        yield EndpointJudge(settings, route, framed, remembered)


async def ruled(web, asked=None, **changes):
    async with judging(web.url, **changes) as judge:
        return await judge.rule(asked or question(), "someone", "r-1")


def unsafe_where(*words):
    return lambda text: "unsafe\nS1" if any(word in text for word in words) else "safe"


async def test_the_task_alone_and_all_of_it_are_asked():
    """A request of a task alone is one question; with more there is a second, which holds every passage."""
    with guard_web() as web:
        ruling = await ruled(web)
        assert (ruling.finding, ruling.by, ruling.part, ruling.why) == (
            Found.ALLOWED,
            "endpoint",
            None,
            "",
        )
        assert web.texts == [TASK]
        more = question(tools="a tool", evidence="a page")
        ruling = await ruled(web, more)
        assert sorted(web.texts[1:]) == sorted([TASK, framed(TASK, more.passages)])
        assert (ruling.prompt_tokens, ruling.output_tokens) == (20, 4)
        path, _, headers = web.asked[0]
        assert (path, headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        ({"task": "evil", "evidence": "evil"}, Part.TASK),
        ({"evidence": "evil"}, Part.EVIDENCE),
        ({"history": "fine", "tools": "evil"}, Part.TOOLS),
        ({"history": "half", "tools": "way"}, Part.TASK),  # only together
    ],
)
async def test_a_refusal_names_its_part(texts, part):
    """The task if that alone is refused, else the part that alone is refused, else the task."""

    def says(text):
        return "unsafe" if "evil" in text or ("half" in text and "way" in text) else "safe"

    with guard_web(says) as web:
        ruling = await ruled(web, question(**texts))
    assert (ruling.finding, ruling.part) == (Found.REFUSED, part)


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        ({"evidence": "evil", "tools": "fine"}, Part.EVIDENCE),
        ({"evidence": "evil", "tools": "evil"}, Part.TOOLS),
        ({"evidence": "evil"}, Part.EVIDENCE),
        ({"task": "evil", "evidence": "evil"}, Part.TASK),
    ],
)
async def test_an_observed_part_never_hides_another(texts, part):
    """A part whose refusals are only counted is named where nothing else is refused, and nowhere else."""
    with guard_web(unsafe_where("evil")) as web:
        ruling = await ruled(web, question(**texts), observe_parts=["evidence"])
    assert (ruling.finding, ruling.part) == (Found.REFUSED, part)


async def test_an_observed_part_neither_hides_a_refusal_nor_withholds_without_a_verdict():
    """Evidence that talks the guard round changes nothing; what it says neither of is named."""

    def says(text):
        if "all is well" in text:
            return "safe"
        return "unsafe" if "evil" in text else "neither" if "odd" in text else "safe"

    with guard_web(says) as web:
        hidden = await ruled(web, question(tools="evil", evidence="all is well"), observe_parts=["evidence"])
        odd = await ruled(web, question(tools="fine", evidence="odd"), observe_parts=["evidence"])
        plain = await ruled(web, question(tools="odd", evidence="fine"), observe_parts=["evidence"])
    assert (hidden.finding, hidden.part) == (Found.REFUSED, Part.TOOLS)
    assert (odd.finding, odd.part) == (Found.UNDECIDED, Part.EVIDENCE)
    assert (plain.finding, plain.part) == (Found.UNDECIDED, None)


async def test_nothing_is_truncated():
    """What is longer than a window is asked about in several, and one word in any of them refuses."""
    padding = "word " * 400
    for where in (f"evil {padding}", f"{padding} evil", f"{padding} evil {padding}"):
        with guard_web(unsafe_where("evil")) as web:
            ruling = await ruled(web, question(where), endpoint={"window_chars": 500})
            assert (ruling.finding, ruling.part) == (Found.REFUSED, Part.TASK)
            assert len(web.asked) > 4
            assert max(map(len, web.texts)) <= 500


async def test_no_request_asks_without_end():
    """Each window may cost money: so many are asked about, and then there is no verdict, or a refusal."""
    most = {"endpoint": {"window_chars": 500}}
    with guard_web(unsafe_where("evil")) as web:
        ruling = await ruled(web, question("word " * 10_000), **most)
        assert (ruling.finding, "more than 64 questions" in ruling.why, len(web.asked)) == (
            Found.UNDECIDED, True, MOST,
        )  # fmt: skip
        assert (await ruled(web, question("evil " * 10_000), **most)).finding is Found.REFUSED
        page = question(evidence="word " * 10_000)
        ruling = await ruled(web, page, **most, observe_parts=["evidence"])
        assert (ruling.finding, ruling.part) == (Found.UNDECIDED, Part.EVIDENCE)
        fits = question("x" * (500 + 63 * 438))
        del web.asked[:]
        assert (await ruled(web, fits, **most)).finding is Found.ALLOWED
        assert len(web.asked) == MOST


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ((429, {}, "busy"), "status 429"),
        ((429, {"retry-after": "60"}, "busy"), "status 429"),
        ((503, {}, "<html>"), "status 503"),
        ((500, {}, json.dumps({"error": "safe"})), "status 500"),
        ((307, {"location": "http://127.0.0.1:9/v1"}, ""), "status 307"),
        ((200, {"content-type": "text/html"}, "<html>safe</html>"), "something other than JSON"),
        ((200, {}, "{}"), "not as its kind of guard does"),
        ((200, {}, "[" * 100_000), "something other than JSON"),
        ((200, {}, b"\xff\xfe"), "something other than JSON"),
        ((200, {"content-encoding": "gzip"}, b"\x1f\x8b"), "packed"),
        ((200, {}, b" " * (MAX_ANSWER + 1)), f"over {MAX_ANSWER} bytes"),
        ((401, {}, f"bad key {KEY}"), "status 401"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure(act, why, caplog):
    """It is asked once, ``why`` names host and status, and neither text nor key nor answer stands there."""
    with guard_web(lambda text: "safe", act) as web, caplog.at_level(logging.DEBUG, "s3lora_serve"):
        ruling = await ruled(web, question(SECRET))
        host = web.url.removeprefix("http://").removesuffix("/v1")
        assert len(web.asked) == 1
    assert ruling.finding is Found.FAILED
    assert ruling.why.startswith(host)
    assert why in ruling.why
    for private in (SECRET, KEY, "busy", "html"):
        assert private not in f"{ruling}{caplog.text}"


async def test_an_answer_that_says_neither_is_undecided():
    """A chat model in the guard's place does not let anything pass."""
    with guard_web(lambda text: f"Sure! {text}") as web:
        ruling = await ruled(web, question(SECRET))
    assert ruling.finding is Found.UNDECIDED
    assert SECRET not in ruling.why


async def test_a_reset_connection_is_tried_once_more():
    """One reset is passed over; with two the judge has failed."""
    with guard_web(lambda text: "safe", "reset") as web:
        assert (await ruled(web)).finding is Found.ALLOWED
    with guard_web(lambda text: "safe", "reset", "reset") as web:
        ruling = await ruled(web)
        assert (ruling.finding, len(web.asked)) == (Found.FAILED, 2)
    assert "closed the connection" in ruling.why


async def test_a_short_retry_after_is_waited_for():
    """A guard that is busy for a moment is asked again, once."""
    busy = (429, {"retry-after": "0"}, "")
    with guard_web(lambda text: "safe", busy) as web:
        assert (await ruled(web)).finding is Found.ALLOWED
    with guard_web(lambda text: "safe", busy, busy) as web:
        assert (await ruled(web)).finding is Found.FAILED


async def test_a_guard_that_hangs_or_is_gone_has_failed():
    """No answer in time, and no server at all: a failure that names the host."""
    with guard_web(lambda text: "safe", "hang") as web:
        ruling = await ruled(web, seconds=0.2)
        assert (ruling.finding, "no answer in time" in ruling.why) == (Found.FAILED, True)
    ruling = await ruled(web)
    assert (ruling.finding, "127.0.0.1" in ruling.why) == (Found.FAILED, True)


async def test_prompts_of_one_request_cause_so_many_questions_together():
    """Each may cost money; one text that stands in several counts once."""
    with guard_web() as web:
        async with judging(web.url) as judge:
            allowance = Allowance(5)
            asked = [question(f"task {n}", tools="a tool") for n in (1, 2, 2, 3)]
            found = [(await judge.rule(each, "a", "1", 0, allowance)).finding for each in asked]
            assert found == [Found.ALLOWED] * 3 + [Found.UNDECIDED]
            assert len(set(web.texts)) == 5


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: " + b"x" * 8000 + b"\r\n\r\n"


@pytest.mark.parametrize("sent", [CONTINUE * 4000, HINTS])
async def test_an_endpoint_that_never_comes_to_its_answer_has_failed(sent):
    """What it may send before it is bounded, and other work goes on after each few kilobytes of it."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(other())
    with guard_web(lambda text: "safe", sent) as web:
        async with judging(web.url) as judge:
            ruling = await judge.rule(question(), "someone", "r-1")
            assert (ruling.finding, "before the end of its answer" in ruling.why) == (Found.FAILED, True)
            assert (len(web.asked), SECRET in ruling.why) == (1, False)
            assert turns >= MAX_SENT // AT_ONCE
            assert (await judge.rule(question(), "someone", "r-2")).finding is Found.ALLOWED
    working.cancel()


async def test_one_connection_has_no_end_of_answers():
    """What an endpoint may send is by request: many short answers on one connection are no long one."""
    with guard_web() as web:
        async with judging(web.url) as judge:
            judge._route._client._transport._pool._network_backend._most = 1000  # three answers or so
            for number in range(8):
                assert (await judge.rule(question(), "someone", str(number))).finding is Found.ALLOWED


async def test_cancelling_ends_what_was_asked():
    """A client that leaves takes its questions with it, at once."""
    with guard_web(lambda text: "safe", "hang", "hang") as web:
        async with judging(web.url) as judge:
            task = asyncio.create_task(judge.rule(question(tools="x"), "someone", "r-1"))
            while len(web.asked) < 2:
                await asyncio.sleep(0.005)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 2


async def test_no_proxy_of_the_environment_is_shown_the_request(monkeypatch):
    """The endpoint is asked itself, whatever HTTP_PROXY says."""
    with guard_web() as proxy, guard_web() as web:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert (await ruled(web)).finding is Found.ALLOWED
        assert (len(proxy.asked), len(web.asked)) == (0, 1)


class Memory(dict):
    """Keeps what was found."""

    async def once(self, key, ask):
        if key in self:
            return self[key], True
        self[key] = await ask()
        return self[key], False


async def test_verdicts_are_remembered_for_their_caller_and_failures_never():
    """The same question of the same caller is not asked again; another's is, and so is one that failed."""
    with guard_web(unsafe_where("evil"), "reset", "reset") as web:
        async with judging(web.url, remembered=Memory()) as judge:
            assert (await judge.rule(question(), "a", "1")).finding is Found.FAILED
            first = await judge.rule(question(), "a", "2")
            again = await judge.rule(question(), "a", "3")
            assert (first.cached, again.cached, again.prompt_tokens) == (False, True, 0)
            assert len(web.asked) == 3
            assert not (await judge.rule(question(), "b", "4")).cached
            refused = [await judge.rule(question("evil"), "a", str(number)) for number in (5, 6)]
            assert [(each.finding, each.part) for each in refused] == [(Found.REFUSED, Part.TASK)] * 2


async def test_a_text_that_is_no_unicode_is_asked_about():
    """Half a surrogate pair in a task does not raise."""
    with guard_web(lambda text: "safe") as web:
        assert (await ruled(web, question("half \ud83d"))).finding is Found.ALLOWED
