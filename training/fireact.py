"""FireAct's GPT-4 runs (MIT) as plans: what it would have written before it saw any result.

Each search becomes a step and its observation goes. A name that the question does not hold but an earlier
observation does becomes a reference: a step that reads it out of the result, and ``#En`` where it stood.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.example import Draft, Example

if TYPE_CHECKING:
    from pathlib import Path

_FIELD = re.compile(
    r"^(Thought|Action|Observation): ?(.*?)(?=^(?:Thought|Action|Observation): ?|\Z)", re.M | re.S
)
_FAILED = re.compile(
    r"\b(?:(?:did|does|could)(?:n't| not)|unable|unfortunately|rephrase|more specific"
    r"|not (?:give|return|provide|clear|specif|found|help|explicit|mention)\w*"
    r"|no (?:relevant|information|result|specific|direct|clear)\w*|different (?:search|query|approach)"
    r"|try (?:a|an|another|again|searching|different|to search))\b",
    re.I,
)
_INTENT = re.compile(
    r"\bI(?:'ll| (?:still |also |now |first |then )*(?:need|have|want|should|will|must|can))"
    r" (?:\w+ )?(?:to )?"
    r"(?P<what>(?:search|find|look|check|know|determine|verify|confirm|identify|get|see)\b"
    # A full stop inside a name (J. Doe, v. Ferguson, No. 7) does not end the sentence.
    r"(?:[^.!?]|\.(?=\S)|(?<=\b\w)\.|(?<=\b[A-Z][a-z])\.){4,200})"
)
_FUNCTION_WORDS = """
    a an the and or of in on at to for by from with is was are were be did does do has have had can could
    would will who whom whose what when where which why how i it its he she they his her their this that these
    those if as not no yes both find search name list
"""
_NOT_NAMES = frozenset(_FUNCTION_WORDS.split())
_UNUSABLE = frozenset("[]#{}\n")


@dataclass(frozen=True)
class _Search:
    thought: str
    query: str
    seen: str


def load(folder: Path) -> list[Example]:
    """Plans from ``hotpotqa.json`` and ``multitask.json`` in ``folder``, one per question, in file order."""
    runs: dict[str, str] = {}
    for name in ("hotpotqa.json", "multitask.json"):
        for row in json.loads((folder / name).read_text(encoding="utf-8")):
            runs.setdefault(row["instruction"].strip(), row["output"])
    # "Question:" marks MMLU's multiple choice, which nobody plans for.
    tasks = [task for task in runs if not task.startswith("Question:") and not _UNUSABLE & set(task)]
    return [plan for task in tasks if (plan := _example(task, runs[task])) is not None]


def _example(task: str, run: str) -> Example | None:
    fields = _FIELD.findall(run)
    thoughts, actions, seen = (
        [value.strip() for key, value in fields if key == wanted]
        for wanted in ("Thought", "Action", "Observation")
    )
    answer = re.fullmatch(r"finish\[(.*)\]", actions[-1], re.S)
    queries = [re.fullmatch(r"search\[(.*)\]", action, re.S) for action in actions[:-1]]
    if answer is None or not queries or not len(thoughts) == len(actions) == len(seen):
        return None
    searches = [_Search(t, q[1].strip(), s) for t, q, s in zip(thoughts, queries, seen, strict=False) if q]
    searches = _without_retries(searches, thoughts)
    if not 1 <= len(searches) <= 4 or any(_UNUSABLE & set(search.query) for search in searches):
        return None
    steps = _steps(task, searches)
    return None if steps is None else Example(task, steps, answer[1].strip())


def _without_retries(searches: list[_Search], thoughts: list[str]) -> list[_Search]:
    """A plan cannot know that a search will fail: of a search and its retries only the last stays."""
    kept: list[_Search] = []
    reason: str | None = None
    for i, search in enumerate(searches):
        own = _INTENT.search(search.thought)
        thought = search.thought if reason is None or (own and "try" not in search.thought) else reason
        failed = i + 1 < len(searches) and _FAILED.search(thoughts[i + 1])
        reason = thought if failed else None
        if not failed:
            kept.append(_Search(thought, search.query, search.seen))
    return kept


def _steps(task: str, searches: list[_Search]) -> tuple[Draft, ...] | None:
    steps: list[Draft] = []
    found_by: list[int] = []  # the step that search k became
    result: list[
        int
    ] = []  # the step that holds what search k was for: found_by[k], or the step that reads it
    queries: list[str] = []
    for k, search in enumerate(searches):
        earlier = searches[:k]
        used = _observed_names(search.query, task, earlier)
        if used is None:
            return None
        for source in used.values():
            if result[source] == found_by[source]:
                text = f"{_question(queries[source])} Given {{{found_by[source]}}}"
                steps.append(
                    Draft("language", "Read the answer from the result.", text, reads=found_by[source])
                )
                result[source] = len(steps)
        query, thought = search.query, _intent(search.thought)
        for name, source in used.items():
            query = query.replace(name, f"{{{result[source]}}}")
            thought = thought.replace(name, f"{{{result[source]}}}")
        if not thought or _unknown_names(thought, f"{task} {search.query}" if not used else task):
            thought = _about(query)
        if query in queries:
            continue  # it looked different only by a name that is now a reference
        steps.append(Draft("lookup", thought, query))
        queries.append(query)
        found_by.append(len(steps))
        result.append(len(steps))
    given = ", ".join(f"{{{at}}}" for at in result)
    steps.append(
        Draft("language", "Answer the question from the results.", f"{_question(task)} Given {given}")
    )
    return tuple(steps)


def _observed_names(query: str, task: str, earlier: list[_Search]) -> dict[str, int] | None:
    """Names in the query that only an earlier observation can have given, with the index of that search.

    None when a name comes from nowhere: only GPT-4 knew it, and a plan built on it teaches making names up.
    """
    known = " ".join([task, *(search.query for search in earlier)])
    used: dict[str, int] = {}
    words = query.split()
    i = 0
    while i < len(words):
        if not _is_name(words[i]) or _has(known, words[i]):
            i += 1
            continue
        span, source = _longest(words, i, earlier)
        if source is None:
            return None
        used[span] = source
        i += len(span.split())
    return used


def _longest(words: list[str], start: int, earlier: list[_Search]) -> tuple[str, int | None]:
    for end in range(len(words), start, -1):
        if _is_name(words[end - 1]):
            span = _bare(" ".join(words[start:end]))
            for k, search in enumerate(earlier):
                if re.search(rf"(?<!\w){re.escape(span)}(?!\w)", search.seen):
                    return span, k
    return "", None


def _unknown_names(text: str, known: str) -> bool:
    return any(_is_name(word) and not _has(known, word) for word in text.split()[1:])


def _intent(thought: str) -> str:
    found = list(_INTENT.finditer(thought))
    if not found:
        return ""
    what = found[-1 if len(found) > 1 and "Now" in thought else 0]["what"].strip(" ,;:.")
    what = (
        re.sub(r"^know\b", "find out", what)
        .replace("more specific ", "")
        .replace("more information", "information")
    )
    what = re.split(r",? (?:and )?then |, (?:so|to|since|because|in order|but) | in order to ", what)[0]
    return f"{what[0].upper()}{what[1:]}."


def _about(query: str) -> str:
    query = query.strip(" ?")
    first = query.split()[0].lower()
    if first in _NOT_NAMES:
        return f"Find out {first}{query[len(first) :]}."
    return f"Search for {query}."


def _question(text: str) -> str:
    text = text.strip()
    return text if text.endswith("?") else f"{text.rstrip('.')}?"


def _bare(word: str) -> str:
    return re.sub(r"^\W+|('s|’s)?\W*$", "", word)


def _is_name(word: str) -> bool:
    bare = _bare(word)
    return bool(bare) and (bare[0].isupper() or bare[0].isdigit()) and bare.lower() not in _NOT_NAMES


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(_bare(word))}(?!\w)", text, re.I) is not None
