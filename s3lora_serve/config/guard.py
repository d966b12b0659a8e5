"""The guard: who judges requests before their answers leave, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import regex
from pydantic import Field, field_validator, model_validator

from s3lora_serve.config.section import ENV_NAME, Section
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

JudgeName = Literal["base", "endpoint"]
GuardPart = Literal["task", "history", "system", "tools", "evidence", "feedback", "documents"]


class GuardEndpointConfig(Section):
    """A guard model or a moderation route elsewhere. Every guarded request's text is sent there."""

    url: str = Field(
        pattern=r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$",
        description="the API's address up to /v1, such as http://guard:8000/v1; no passwords",
    )
    model: str = Field("", description="the guard model's name there; a moderation route may need none")
    kind: Literal["llama-guard", "shieldgemma", "moderation", "custom"] = Field(
        description="how it is asked and answers: Llama Guard's and ShieldGemma's templates, OpenAI's"
        " /moderations, or `template` and `unsafe`"
    )
    api_key_env: str | None = Field(
        None, pattern=ENV_NAME, description="environment variable that holds its API key; null: none is sent"
    )
    template: str | None = Field(
        None, description="of kind custom: the user's message, with {request} where the request's text stands"
    )
    unsafe: str | None = Field(
        None, description="of kind custom: regular expression that its answer begins with if it says unsafe"
    )
    safe: str | None = Field(
        None,
        description="of kind custom: regular expression of an answer that says safe; no verdict else",
    )
    window_chars: int = Field(
        16_000,
        ge=500,
        description="characters that it is asked about at once: what its context surely holds; about longer"
        " requests it is asked in windows that overlap",
    )

    @property
    def host(self) -> str:
        """What logs, pages and clients are shown of ``url``: host and port."""
        parts = urlsplit(self.url)
        host = parts.hostname or "?"
        return f"{host}:{parts.port}" if parts.port else host

    @model_validator(mode="after")
    def _custom(self) -> GuardEndpointConfig:
        own = {"template": self.template, "unsafe": self.unsafe, "safe": self.safe}
        if self.kind == "custom":
            if missing := [name for name, value in own.items() if not value]:
                raise ValueError(f"kind custom needs {', '.join(missing)}")
            if "{request}" not in str(self.template):
                raise ValueError("template must have {request} where the request's text is to stand")
            _expressions(unsafe=str(self.unsafe), safe=str(self.safe))
        elif given := [name for name, value in own.items() if value is not None]:
            raise ValueError(f"{', '.join(given)}: only of kind custom, and kind is {self.kind}")
        if self.kind != "moderation" and not self.model:
            raise ValueError(f"kind {self.kind} needs the model's name")
        return self


def _expressions(**given: str) -> None:
    """Raise ValueError for what is no regular expression, or matches an answer that says nothing."""
    for name, pattern in given.items():
        try:
            empty = regex.compile(pattern).match("")
        except regex.error as error:
            raise ValueError(f"{name} is not a regular expression: {error}") from error
        if empty:
            raise ValueError(f"{name} matches every answer, also an empty one")


def _or_one(schema: dict[str, Any]) -> None:
    """Make a list's JSON Schema say that one item may stand without the list."""
    items = {key: schema.pop(key) for key in ("type", "items", "minItems") if key in schema}
    schema["anyOf"] = [items["items"], items]


class GuardConfig(Section):
    """Who judges a request before its answer leaves, and what follows from that."""

    by: tuple[JudgeName, ...] = Field(
        ("base",),
        min_length=1,
        strict=False,
        json_schema_extra=_or_one,
        description="base: the base model, asked in this engine; endpoint: a guard model elsewhere;"
        " [base, endpoint]: both, and either may refuse",
    )
    action: Literal["refuse", "observe", "off"] = Field(
        "off",
        description="refuse: withhold answers; observe: serve them, count and report what would be withheld",
    )
    fail: Literal["closed", "open"] = Field(
        "closed",
        description="what becomes of an answer about whose request there is no verdict: withheld, or served,"
        " counted and marked",
    )
    seconds: float = Field(30, gt=0, description="a verdict that is not there within this has failed")
    min_refusal: float = Field(
        0.5, ge=0, le=1, description="by: base needs a base model that refuses this share of the attacks"
    )
    max_over_refusal: float = Field(
        0.1, ge=0, le=1, description="and at most this share of the planning tasks"
    )
    allow: tuple[str, ...] = Field(
        (), strict=False, description="names of server.callers whose requests are not judged"
    )
    observe_parts: tuple[GuardPart, ...] = Field(
        (),
        strict=False,
        description="parts of a request for which a refusal is only counted, such as evidence: else a web"
        " page with a refused word in it stops every agent that reads it",
    )
    cache_seconds: float = Field(
        300, ge=0, description="how long a verdict is remembered for the same caller and text; 0: never"
    )
    endpoint: GuardEndpointConfig | None = Field(None, description="for by: endpoint")

    @field_validator("by", mode="before")
    @classmethod
    def _one_or_more(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("action", mode="before")
    @classmethod
    def _off(cls, given: Any) -> Any:
        return "off" if given is False else given  # how YAML reads a bare off

    @model_validator(mode="after")
    def _whole(self) -> GuardConfig:
        if len(set(self.by)) < len(self.by):
            raise ValueError(f"by names {self.by[0]!r} twice")
        if "endpoint" in self.by and self.endpoint is None:
            raise ValueError("by: endpoint needs the section endpoint, with its url and kind")
        return self

    @property
    def asks(self) -> bool:
        """Whether requests are judged at all."""
        return self.action != "off"

    def api_key(self, environ: Mapping[str, str], where: str) -> str | None:
        """The endpoint's API key, None where none is sent; ``where`` names the section in errors.

        Raises ConfigError for a variable that is not set.
        """
        if not self.asks or "endpoint" not in self.by or self.endpoint is None:
            return None
        if (name := self.endpoint.api_key_env) is None:
            return None
        if not (key := environ.get(name, "").strip()):
            raise ConfigError(
                f"{where}.endpoint.api_key_env is {name}, which is not set",
                hint=f"set {name} in the environment, or leave api_key_env out where none is needed",
            )
        return key
