"""One adapter under many prunings in one batch: a mask per row switches each module's update off.

Every pruning of an adapter shares its factors, so a sweep needs neither one copy of the weights nor one
forward pass for each. The product evaluates through its engine; this is for experiments with thousands of
prunings, and ``tests/benchmarks/test_evidence_masked.py`` holds it to what PEFT computes for the pruned
adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from s3lora_serve.judging.outcomes import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from s3lora_serve.judging.suite import Messages
    from s3lora_serve.spectral.lowrank import LowRank

COMPACT = 0.7  # rows that have ended are dropped from the batch once this share of it is left


class MaskedAdapter:
    """A LoRA adapter attached to ``model`` (a transformers causal language model) until ``close``.

    ``variants`` are the prunings: for each the names of the modules that are left out. ``tokens`` bounds a
    batch, answers included.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        modules: Mapping[str, LowRank],
        variants: Sequence[Collection[str]],
        tokens: int = 8192,
    ) -> None:
        self._model, self._tokenizer, self._tokens = model, tokenizer, tokens
        order = list(modules)
        device, dtype = model.device, model.dtype
        self._masks = torch.tensor(
            [[float(name not in dropped) for name in order] for dropped in map(set, variants)],
            dtype=dtype,
            device=device,
        )  # [variants, modules]
        self._mask = self._masks[:1]  # [batch, modules] of the forward pass under way
        self._hooks = []
        for k, name in enumerate(order):
            module = modules[name]
            a = module.a.to(device, dtype)
            b = (module.b.float() * module.scaling).to(device, dtype)
            self._hooks.append(model.get_submodule(name).register_forward_hook(self._hook(k, a, b)))

    @property
    def variants(self) -> int:
        """Number of prunings."""
        return len(self._masks)

    def close(self) -> None:
        """Take the adapter off the model."""
        for hook in self._hooks:
            hook.remove()

    def answers(
        self, chats: Sequence[Messages], max_tokens: int, told: Callable[[int], None] = lambda done: None
    ) -> list[list[Answer]]:
        """Greedy answers, [variants][chats]."""
        prompts = [self._prompt(chat) for chat in chats]
        found: dict[tuple[int, int], Answer] = {}
        for part in self._parts(prompts, max_tokens):
            given = self._generate([prompts[q] for _, q in part], [v for v, _ in part], max_tokens)
            found |= dict(zip(part, map(self._answer, given), strict=True))
            told(len(part))
        return [[found[v, q] for q in range(len(chats))] for v in range(len(self._masks))]

    def continued(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        told: Callable[[int], None] = lambda done: None,
    ) -> list[list[int]]:
        """What follows each prompt, greedily, under the first variant; the end token, if any, is the last."""
        found: dict[int, list[int]] = {}
        for part in self._parts(prompts, max_tokens, variants=1):
            given = self._generate([list(prompts[q]) for _, q in part], [0] * len(part), max_tokens)
            found |= {q: ids for (_, q), (ids, _) in zip(part, given, strict=True)}
            told(len(part))
        return [found[q] for q in range(len(prompts))]

    def losses(
        self, examples: Sequence[tuple[Messages, str]], told: Callable[[int], None] = lambda done: None
    ) -> list[list[float]]:
        """Mean nats a token of each reference answer, [variants][examples]."""
        prompts = [self._prompt(chat) for chat, _ in examples]
        answers = [self._ids(answer) for _, answer in examples]
        whole = [p + a for p, a in zip(prompts, answers, strict=True)]
        found: dict[tuple[int, int], float] = {}
        for part in self._parts(whole, 0):
            rows = [(whole[q], len(answers[q])) for _, q in part]
            found |= dict(zip(part, self._nats(rows, [v for v, _ in part]), strict=True))
            told(len(part))
        return [[found[v, q] for q in range(len(examples))] for v in range(len(self._masks))]

    def _parts(
        self, texts: Sequence[Sequence[int]], more: int, variants: int | None = None
    ) -> Iterator[list[tuple[int, int]]]:
        """(variant, question) in batches of about one length; ``more`` tokens are added to each text."""
        part: list[tuple[int, int]] = []
        for q in sorted(range(len(texts)), key=lambda q: len(texts[q])):
            for v in range(variants or len(self._masks)):
                if part and (len(part) + 1) * (len(texts[q]) + more) > self._tokens:
                    yield part
                    part = []
                part.append((v, q))
        if part:
            yield part

    @torch.inference_mode()
    def _generate(
        self, prompts: list[list[int]], variants: list[int], max_tokens: int
    ) -> list[tuple[list[int], bool]]:
        """New tokens of each row, the end token among them if it came, and whether it did."""
        from transformers import DynamicCache

        width, device = max(map(len, prompts)), self._model.device
        pad, end = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
        seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        position = (seen.cumsum(1) - 1).clamp(min=0)
        self._mask = self._masks[torch.tensor(variants, device=device)]
        cache = DynamicCache()
        live = torch.arange(len(prompts), device=device)
        written = torch.full((len(prompts), max_tokens), end, device=device)
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        for step in range(max_tokens):
            logits = self._model(
                input_ids=ids,
                attention_mask=seen,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            token = logits[:, -1].argmax(-1)  # [live rows]
            token = torch.where(ended[live], end, token)
            written[live, step] = token
            ended[live] |= token == end
            if step % 8 == 7 or step + 1 == max_tokens:
                going = (~ended[live]).nonzero()[:, 0]
                if not len(going):
                    break
                if len(going) < COMPACT * len(live):
                    cache.batch_select_indices(going)
                    live, token, seen, position = live[going], token[going], seen[going], position[going]
                    self._mask = self._mask[going]
            ids = token[:, None]
            seen = functional.pad(seen, (0, 1), value=1)
            position = position[:, -1:] + 1
        return [
            (row[: row.index(end) + 1] if stop else row, stop)
            for row, stop in zip(written.tolist(), ended.tolist(), strict=True)
        ]

    def _answer(self, given: tuple[list[int], bool]) -> Answer:
        ids, ended = given
        text = self._tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
        return Answer(text, len(ids), ended)

    @torch.inference_mode()
    def _nats(self, rows: list[tuple[list[int], int]], variants: list[int]) -> list[float]:
        width, device = max(len(ids) for ids, _ in rows), self._model.device
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([r + [pad] * (width - len(r)) for r, _ in rows], device=device)
        seen = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r, _ in rows], device=device)
        self._mask = self._masks[torch.tensor(variants, device=device)]
        hidden = self._model.model(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state
        means = []
        for row, (text, n) in enumerate(rows):
            at = slice(len(text) - n - 1, len(text) - 1)  # the state before each answer token
            logits = self._model.lm_head(hidden[row, at]).float()  # [n, vocabulary]
            means.append(functional.cross_entropy(logits, ids[row, len(text) - n : len(text)]))
        return torch.stack(means).tolist()

    def _hook(self, k: int, a: Tensor, b: Tensor) -> Callable[[Any, Any, Tensor], Tensor]:
        def add(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            low = functional.linear(inputs[0], a) * self._mask[:, k, None, None]  # [batch, tokens, r]
            return output + functional.linear(low, b)

        return add

    def _prompt(self, chat: Messages) -> list[int]:
        text = self._tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
