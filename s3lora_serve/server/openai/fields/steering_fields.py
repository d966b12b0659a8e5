"""Fields of chat and completion bodies that steer the engine beyond the client's own answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Value that asks for nothing, and what it would do.
STEERING: Mapping[str, tuple[object, str]] = {
    "priority": (0, "it would put this request before those of others"),
    "vllm_xargs": ({}, "it reaches the engine's plugins"),
    "kv_transfer_params": ({}, "it tells the engine where to read and write keys and values"),
    "ec_transfer_params": ({}, "it tells the engine where to read and write encoded inputs"),
}
# No slot's name begins like this: the characters of one are letters, digits, ``.``, ``_``, ``-`` and ``@``.
SALT_PREFIX = "client:"
# As vLLM reads it: "3" and 3.0 are 3, too.
_PRIORITY = TypeAdapter(Annotated[int, Field(ge=-(2**63), lt=2**63)])


def check_steering(fields: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raise RequestRefused (403) for a field that only an operator may let clients use."""
    for name, (nothing, effect) in STEERING.items():
        value = fields.get(name)
        if value is None or name in allowed or (type(value) is type(nothing) and value == nothing):
            continue
        raise RequestRefused(
            f"field {name!r} is not allowed here: {effect}",
            reason="field_not_allowed",
            status=403,
            param=name,
            hint="leave it out; an operator can allow it in server.allow_fields",
        )


def priority_of(fields: Mapping[str, Any]) -> int:
    """The request's priority in the engine; that of any other where the engine will refuse what is given."""
    try:
        return _PRIORITY.validate_python(fields.get("priority", 0))
    except ValidationError:
        return 0


def with_own_salt(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with a ``cache_salt`` that cannot be the name of a slot.

    Up to 0.30 vLLM keys the first block of its prefix cache by the slot's name or the salt, whichever there
    is, with nothing to tell them apart (v1/core/kv_cache_utils.py; vllm#44701): a request for the base model
    with a slot's name as its salt would be answered from that planner's keys and values.
    """
    salt = fields.get("cache_salt")
    if not isinstance(salt, str) or not salt:  # the engine says what is wrong with it
        return dict(fields)
    return {**fields, "cache_salt": SALT_PREFIX + salt}
