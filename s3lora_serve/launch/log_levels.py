"""What is logged, and how: levels by part; vLLM's lines are hidden unless asked for"""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
import warnings
from typing import TYPE_CHECKING

import s3lora_serve
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.log_format import JsonFormat, LogFormat
from s3lora_serve.terminal.console import speak_through

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_OWN = "s3lora_serve"


def set_logging(levels: str, form: str = "text") -> None:
    """Let our loggers speak from these levels on and vLLM's only of errors; call it before vLLM is imported.

    ``levels`` is one for all, and others for parts: ``info,serving=debug,vllm=info``. With ``json`` remarks
    beside the log (``say``) become lines of it. Raises ConfigError for what is not known.
    """
    if form not in FORMATS:
        raise ConfigError(f"--log-format {form!r} is not known", hint=f"use {' or '.join(FORMATS)}")
    level, parts = _parsed(levels)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormat() if form == "text" else JsonFormat())
    ours = _number(level)
    logging.basicConfig(handlers=[handler], level=max(ours, logging.WARNING))
    for name in (_OWN, "planners"):
        logging.getLogger(name).setLevel(ours)
    for part, own in parts.items():
        logging.getLogger(part if part == "planners" else f"{_OWN}.{part}").setLevel(_number(own))
    if form == "json":
        logger = logging.getLogger(_OWN)
        speak_through(lambda text, error: logger.log(logging.ERROR if error else logging.INFO, "%s", text))
    # vLLM says a hundred lines at info, and warns of what does not matter here. It reads the variable when it
    # is imported, here and in its own processes; before that its loggers are like any other.
    quiet = parts.get("vllm", "debug" if level == "debug" else "error").upper()
    if "vllm" in parts:
        os.environ["VLLM_LOGGING_LEVEL"] = quiet
    os.environ.setdefault("VLLM_LOGGING_LEVEL", quiet)
    logging.getLogger("vllm").setLevel(quiet)
    if level != "debug":
        # For authors of vLLM and torch, not for operators; the second comes when vLLM's processes have ended.
        warnings.simplefilter("ignore", FutureWarning)
        unwanted = "ignore::FutureWarning,ignore::UserWarning:multiprocessing.resource_tracker"
        os.environ.setdefault("PYTHONWARNINGS", unwanted)


def _parsed(levels: str) -> tuple[str, Mapping[str, str]]:
    """The level for all, and those of parts."""
    level, parts = "info", {}
    for item in levels.split(","):
        part, given, value = item.strip().rpartition("=")
        if value not in LEVELS:
            raise ConfigError(f"--log-level {value!r} is not known", hint=f"use {', '.join(LEVELS)}")
        if not given:
            level = value
        elif part in (known := _parts()):
            parts[part] = value
        else:
            raise ConfigError(f"--log-level: there is no part {part!r}", hint=f"parts: {', '.join(known)}")
    return level, parts


def _parts() -> tuple[str, ...]:
    """What can have a level of its own."""
    folders = {module.name for module in pkgutil.iter_modules(s3lora_serve.__path__) if module.ispkg}
    return tuple(sorted(folders | {"access", "planners", "vllm"}))


def _number(level: str) -> int:
    return int(getattr(logging, level.upper()))
