"""The two listeners as settings: clients on one, operators on the other, each with its own secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from planners.loopback import is_loopback
from s3lora_serve.config.section import ENV_NAME, Section
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


DEFAULT = "default"  # the caller that holds the key of api_key_env
ANYONE = "anyone"  # every caller of a server without keys
# As browsers write them: a default port and a final slash are left out, letters are small.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
CALLER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class ServerConfig(Section):
    """The listener for clients: address, API key and limits."""

    host: str = Field("127.0.0.1", description="address to bind; other than loopback needs an API key")
    port: int = Field(8000, ge=0, le=65535, description="0 lets the system choose")
    api_key_env: str = Field(
        "S3LORA_API_KEY",
        pattern=ENV_NAME,
        description="name of the environment variable that holds the API key",
    )
    callers: dict[str, str] = Field(
        default_factory=dict,
        description="more clients by name, each with the environment variable that holds its own API key:"
        " for guard.allow, and to tell callers apart in the guard's report",
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        strict=False,  # YAML has lists
        description="origins of web pages whose scripts may ask this server, such as https://app.example;"
        " '*' for all, which needs an API key",
    )
    max_body_mib: float = Field(4, gt=0, description="largest request body, MiB")
    body_seconds: float = Field(30, gt=0, description="time for a request's body to arrive")
    max_header_kib: int = Field(64, ge=1, description="request line and at most 100 headers, KiB")
    header_seconds: float = Field(10, gt=0, description="time for a request's headers to arrive")
    max_connections: int = Field(2048, ge=1, description="open connections of clients; more get 503")
    max_concurrent: int = Field(
        128,
        ge=1,
        description="requests for plans, chats and completions that are answered at once; more get 429",
    )
    max_n: int = Field(8, ge=1, description="answers that one chat or completion request may ask for ('n')")

    strict_fields: bool = Field(
        False,
        description="refuse every field of a chat or completion that has no effect here (400), rather than"
        " name it in the answer's Warning header; misspelt ones are refused in any case",
    )
    break_control_tokens: bool = Field(
        False,
        description="in chats too, as in tasks and tools always: what the base model takes for control tokens"
        " is broken up, so that a message cannot speak in another's name",
    )
    grace_seconds: float | None = Field(
        None,
        ge=0,
        description="time from the signal to stop until requests that still run are cut"
        " (default: drain_notice_seconds and the longer of plans.seconds and swap.drain_seconds)",
    )
    drain_notice_seconds: float | None = Field(
        None,
        ge=0,
        description="time from the signal to stop for which requests are still accepted while /readyz says"
        " 503 (default: 5, on loopback 0)",
    )
    allow_fields: tuple[
        Literal["priority", "vllm_xargs", "kv_transfer_params", "ec_transfer_params"], ...
    ] = Field(
        (),
        strict=False,  # YAML has lists
        description="fields of chats and completions that steer the engine, which are refused unless here",
    )
    answer_seconds: float = Field(
        600,
        gt=0,
        description="a chat or completion that has not ended within this gets 503; see plans.seconds",
    )

    @property
    def notice_seconds(self) -> float:
        """``drain_notice_seconds``, or what it is where nothing is set."""
        if self.drain_notice_seconds is not None:
            return self.drain_notice_seconds
        return 0.0 if is_loopback(self.host) else 5.0

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"origin {origin[:80]!r}: write scheme, host and port as a browser sends them, such as"
                    " https://app.example or http://localhost:3000, without a path"
                )
        return origins

    @field_validator("callers")
    @classmethod
    def _named(cls, callers: dict[str, str]) -> dict[str, str]:
        for name, variable in callers.items():
            if not CALLER_NAME.fullmatch(name):
                raise ValueError(
                    f"caller {name!r}: use at most 63 of a-z, 0-9, '.', '_' and '-',"
                    " starting with a letter or digit"
                )
            if name in (DEFAULT, ANYONE):
                who = "who sends the key of api_key_env" if name == DEFAULT else "any caller without a key"
                raise ValueError(f"caller {name!r}: that name means {who}; choose another")
            if not re.fullmatch(ENV_NAME, variable):
                # Not repeated: it may be the key itself.
                raise ValueError(f"caller {name!r}: name the environment variable that holds its key")
        return callers

    def keys(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The API keys from ``environ`` by caller: DEFAULT has that of ``api_key_env``, if it is set.

        None at all lets only this machine ask. Raises ConfigError where others can ask without one, for a
        caller whose variable is not set, and for two callers with one key.
        """
        keys: dict[str, str] = {}
        for name, variable in {DEFAULT: self.api_key_env, **self.callers}.items():
            key = environ.get(variable, "").strip()
            if not key and name != DEFAULT:
                raise ConfigError(
                    f"server.callers: {name!r} has its key in {variable}, which is not set",
                    hint=f"set {variable} in the environment, or take {name!r} out of server.callers, and of"
                    " guard.allow where it is named",
                )
            if twice := [other for other, known in keys.items() if key and known == key]:
                raise ConfigError(
                    f"server.callers: {twice[0]!r} and {name!r} have the same key, and cannot be told apart",
                    hint=f"give {variable} another value",
                )
            if key:
                keys[name] = key
        if not keys and "*" in self.cors_origins:
            raise ConfigError(
                f"server.cors_origins lets every web page ask this server, and {self.api_key_env} is not set",
                hint=f"set {self.api_key_env} in the environment, or name the origins of your own pages",
            )
        if not keys and not is_loopback(self.host):
            raise ConfigError(
                f"server.host is {self.host}, which others can reach, and {self.api_key_env} is not set",
                hint=f"set {self.api_key_env} in the environment, or listen on 127.0.0.1",
            )
        return keys


class AdminConfig(Section):
    """The listener for operators' orders. A token is always required, whatever the address."""

    host: str = Field("127.0.0.1", description="address to bind; clients of planners need not reach it")
    port: int = Field(8001, ge=0, le=65535, description="0 lets the system choose; not the server's port")
    token_env: str = Field(
        "S3LORA_ADMIN_TOKEN",
        pattern=ENV_NAME,
        description="name of the environment variable that holds the operators' token; if unset, each start "
        "generates one and writes it to admin.json beside the state file, readable by this user only",
    )

    def token(self, environ: Mapping[str, str]) -> str | None:
        """The token from ``environ``, or None when the server is to make one."""
        return environ.get(self.token_env, "").strip() or None
