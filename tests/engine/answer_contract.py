"""What every engine must do when it is asked how likely an answer is."""

from __future__ import annotations

import pytest
from contract import HELLO, distance
from dictated import STRONG

from s3lora_serve.errors import EngineError, EngineRefused

STORY = "The lamp was lit at dusk, and the keeper climbed the stairs again."
SHUFFLED = "Stairs lamp the, again keeper dusk at was and lit climbed The the."


class AnswerContract:
    """Mixed into ``EngineContract``, whose fixtures it uses."""

    async def test_each_token_of_an_answer_is_scored(self, engine, noise):
        """One non-positive number a token, more for more text, none for no text; the same every time."""
        scores = await engine.answer_scores(HELLO, STORY, None)
        assert max(scores) <= 0
        assert len(STORY.split()) <= len(scores) <= len(STORY)
        assert distance(scores, await engine.answer_scores(HELLO, STORY, None)) <= noise
        assert len(await engine.answer_scores(HELLO, f"{STORY} {STORY}", None)) > len(scores)
        assert await engine.answer_scores(HELLO, "", None) == ()

    async def test_adapters_change_an_answers_scores(self, engine, adapter, load, noise):
        """Two adapters differ from the base and from each other; one of zeros is the base."""
        slots = [await load(adapter(seed=n, strength=STRONG)) for n in (1, 2)]
        base, one, two = [await engine.answer_scores(HELLO, STORY, slot) for slot in (None, *slots)]
        apart = min(distance(base, one), distance(base, two), distance(one, two))
        assert apart > max(0.05, 4 * noise)
        zeros = await engine.answer_scores(HELLO, STORY, await load(adapter(seed=1, strength=0.0)))
        assert distance(base, zeros) <= noise

    async def test_an_answer_depends_on_what_was_asked(self, engine):
        """Its first token comes after the chat, not after nothing."""
        asked = [[{"role": "user", "content": text}] for text in ("What is in the box", "Say it in French")]
        first = [(await engine.answer_scores(messages, STORY, None))[0] for messages in asked]
        assert first[0] != first[1]

    async def test_impossible_answers_are_refused(self, engine, adapter, new_slot):
        """Too long a chat, and a slot that is not loaded, are errors that say so."""
        with pytest.raises(EngineRefused, match=f"exceed.* {engine.max_model_len}"):
            await engine.answer_scores(HELLO, "dusk " * engine.max_model_len, None)
        with pytest.raises(EngineError, match="is not loaded"):
            await engine.answer_scores(HELLO, STORY, new_slot(adapter(seed=1)))

    async def test_scoring_an_answer_is_one_request(self, engine, adapter, load, facts):
        """Observers are told of it as of any other, with its slot."""
        slot = await load(adapter(seed=1))
        await engine.answer_scores(HELLO, STORY, slot)
        assert [(f.slot, f.outcome) for f in facts] == [(slot.name, "ok")]


class RealAnswers:
    """What only a language model shows: of fixed texts, which it need not say itself."""

    async def test_sense_is_likelier_than_the_same_words_shuffled(self, engine):
        """The tokens are scored in their places: by more than a nat a token."""
        sense, nonsense = [await engine.answer_scores(HELLO, text, None) for text in (STORY, SHUFFLED)]
        assert sum(sense) / len(sense) > sum(nonsense) / len(nonsense) + 1

    async def test_an_answer_is_likelier_to_what_it_answers(self, engine):
        """The chat is read: by more than a nat in all."""
        asked = [{"role": "user", "content": "What is 2 + 2?"}]
        own, other = [await engine.answer_scores(chat, "2 + 2 = 4", None) for chat in (asked, HELLO)]
        assert sum(own) > sum(other) + 1

    async def test_an_answers_scores_are_those_of_its_tokens(self, engine, adapter, load, noise):
        """The same numbers as ``score`` gives for prompt and answer as token ids."""
        slot = await load(adapter(seed=1))
        tokenizer = engine._client.renderer.get_tokenizer()
        prompt = tokenizer.apply_chat_template(
            HELLO, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        answer = tokenizer.encode(STORY, add_special_tokens=False)
        whole = await engine.score([*prompt, *answer], slot)
        scores = await engine.answer_scores(HELLO, STORY, slot)
        assert len(answer) == len(scores)
        assert distance(whole[-len(answer) :], scores) <= noise
