"""The two listeners as settings: clients on one, operators on the other, each with its own secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from planners.loopback import is_loopback
from s3lora_serve.config.section import ENV_NAME, Section
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    def api_key(self, environ: Mapping[str, str]) -> str | None:
        """The API key from ``environ``, or None; raises ConfigError if one is needed to bind ``host``."""
        key = environ.get(self.api_key_env, "").strip() or None
        if key is None and not is_loopback(self.host):
            raise ConfigError(
                f"server.host is {self.host}, which others can reach, and {self.api_key_env} is not set",
                hint=f"set {self.api_key_env} in the environment, or listen on 127.0.0.1",
            )
        return key


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
