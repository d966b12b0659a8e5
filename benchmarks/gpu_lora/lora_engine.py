"""One engine of the benchmark: ``lora_engine.py none|stock|ours FOLDER`` serves requests of run.py at
FOLDER/<kind>.sock."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

KEY = b"gpu-lora"
SIZES = [1, 2, 4, 8, 16, 32, 64, 128]
# Without the embedding and the head, which admission refuses adapters of; the same list for stock and ours.
TARGETS = [
    "qkv_proj", "o_proj", "gate_up_proj", "down_proj", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj",
]  # fmt: skip


class TimedEngine:
    """vLLM with the benchmark's model, and prompts of random tokens."""

    def __init__(self, kind: str, folder: Path, slots: int, memory: float) -> None:
        from vllm import LLM

        began = time.perf_counter()
        self._folder, self._ids = folder, {}
        lora: dict[str, Any] = {}
        if kind != "none":
            lora = {
                "enable_lora": True, "max_loras": slots, "max_cpu_loras": 64, "max_lora_rank": 16,
                "lora_target_modules": TARGETS,
            }  # fmt: skip
        self._llm = LLM(
            model=str(folder / "base"), load_format="dummy", skip_tokenizer_init=True, dtype="bfloat16",
            max_model_len=1024, max_num_seqs=128, gpu_memory_utilization=memory,
            kv_cache_memory_bytes=6 << 30, enable_prefix_caching=False, seed=0, disable_log_stats=True,
            compilation_config={"cudagraph_capture_sizes": SIZES}, **lora,
        )  # fmt: skip
        self.ready = time.perf_counter() - began
        self.lora = "no LoRA" if kind == "none" else "vLLM's own kernels"
        if kind == "ours":
            self.lora = self._llm.collective_rpc("s3lora_gpu_lora")[0]["line"]

    def generate(
        self, adapters: list[str | None], tokens_in: int, tokens_out: int, seed: int, logprobs: bool = False
    ) -> dict[str, Any]:
        """One batch, greedy: its seconds, and its tokens with their log-probabilities if asked."""
        import torch
        from vllm import SamplingParams

        generator = torch.Generator().manual_seed(seed)
        prompts = [
            {"prompt_token_ids": torch.randint(100, 120000, (tokens_in,), generator=generator).tolist()}
            for _ in adapters
        ]
        sampling = SamplingParams(
            temperature=0,
            max_tokens=tokens_out,
            ignore_eos=True,
            detokenize=False,
            logprobs=1 if logprobs else None,
        )
        loras = [self._adapter(name) for name in adapters]
        asked = loras if any(loras) else None
        began = time.perf_counter()
        answers = self._llm.generate(prompts, sampling, lora_request=asked, use_tqdm=False)
        seconds = time.perf_counter() - began
        if not logprobs:
            return {"seconds": seconds}
        outputs = [answer.outputs[0] for answer in answers]
        return {
            "seconds": seconds,
            "tokens": [list(each.token_ids) for each in outputs],
            "logprobs": [
                [at[token].logprob for at, token in zip(each.logprobs, each.token_ids, strict=True)]
                for each in outputs
            ],
        }

    def hold(self, names: list[str]) -> None:
        """Put adapters into slots, before a clock starts."""
        if names:
            self.generate(list(names), 16, 1, seed=0)

    def _adapter(self, name: str | None) -> Any:
        from vllm.lora.request import LoRARequest

        if name is None:
            return None
        number = self._ids.setdefault(name, len(self._ids) + 1)
        return LoRARequest(name, number, str(self._folder / "adapters" / name))


def main() -> None:
    kind, folder, slots, memory = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    address = folder / f"{kind}.sock"
    address.unlink(missing_ok=True)
    engine = TimedEngine(kind, folder, slots, memory)
    with Listener(str(address), "AF_UNIX", authkey=KEY) as listener:
        while True:
            with listener.accept() as connection:
                try:
                    while True:
                        call = connection.recv()
                        if call["do"] == "end":
                            os._exit(0)
                        try:
                            if call["do"] == "hello":
                                answer = {"ready": engine.ready, "lora": engine.lora}
                            elif call["do"] == "hold":
                                engine.hold(call["names"])
                                answer = {}
                            else:
                                answer = engine.generate(*call["arguments"])
                        except Exception as error:
                            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
                        connection.send(answer)
                except (EOFError, ConnectionError):
                    continue  # run.py ended; another may come


if __name__ == "__main__":
    main()
