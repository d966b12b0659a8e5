"""``response_format`` and ``structured_outputs`` that would constrain nothing, though they look as if."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.server.validation import RequestRefused, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES = ("text", "json_object", "json_schema", "structural_tag")
_SCHEMA = '{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}'
_OUTPUTS = frozenset(
    (
        "json", "regex", "choice", "grammar", "json_object", "structural_tag", "disable_any_whitespace",
        "disable_additional_properties", "whitespace_pattern",
    )
)  # fmt: skip


def check_not_lost(fields: Mapping[str, Any]) -> None:
    """Raise RequestRefused (400) for a constraint that the engine would not keep to."""
    if isinstance(outputs := fields.get("structured_outputs"), dict):
        for name in outputs:
            if name not in _OUTPUTS and outputs[name] is not None:
                raise _lost(f"structured_outputs.{name[:80]}", nearest(name[:80], _OUTPUTS))
    if isinstance(given := fields.get("response_format"), dict):
        _check_format(given)


def _check_format(given: Mapping[str, Any]) -> None:
    kind, inner = given.get("type"), given.get("json_schema")
    for name in ("schema", "json_schema"):
        if given.get(name) is not None and (name == "schema" or kind != "json_schema"):
            raise _lost(f"response_format.{name}", f"send {_SCHEMA}")
    if kind not in _TYPES:
        shown = f"{str(kind)[:40]!r}" if isinstance(kind, str) else "no type"
        raise RequestRefused(
            f"response_format.type: {shown} is none of {', '.join(_TYPES)}, so nothing would be constrained",
            reason="invalid_request",
            param="response_format.type",
            hint=f"for a schema send {_SCHEMA}; regex, choice and grammar go into 'structured_outputs'",
        )
    if kind == "json_schema" and (not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict)):
        where = "response_format.json_schema" + (".schema" if isinstance(inner, dict) else "")
        raise RequestRefused(
            f"{where}: must be an object, else nothing would be constrained",
            reason="invalid_request",
            param=where,
            hint=f"send {_SCHEMA}",
        )


def _lost(path: str, hint: str) -> RequestRefused:
    return RequestRefused(
        f"field {path!r} would have no effect, and what it asks for would be lost",
        reason="ignored_field",
        param=path,
        hint=hint,
    )
