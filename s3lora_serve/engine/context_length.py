"""Whether an engine's refusal says that the prompt, or prompt and answer, exceed the model's context."""

from __future__ import annotations

import re

# vLLM's texts from 0.26 to 0.32 (renderers/params.py, v1/engine/input_processor.py,
# entrypoints/serve/utils/api_utils.py): its errors have no code.
_TOO_LONG = re.compile(
    r"maximum context length|longer than the maximum model length|exceeds? (?:the )?model'?s? max|"
    r"exceed max_model_len|max_(?:completion_)?tokens.{0,40} too large",
    re.I,
)


def is_too_long(message: str) -> bool:
    """Whether the message means that."""
    return _TOO_LONG.search(message) is not None
