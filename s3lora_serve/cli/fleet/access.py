"""Where a running server takes operators' orders, and with which token: found, never guessed."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError, ControlError
from s3lora_serve.launch.engine_choice import to_own

if TYPE_CHECKING:
    from collections.abc import Mapping

URL_ENV, TOKEN_ENV = "S3LORA_ADMIN_URL", "S3LORA_ADMIN_TOKEN"
DEFAULT_FILE = Path(".s3lora/admin.json")
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Access:
    """The address of an admin listener, and its token."""

    url: str
    token: str = field(repr=False)
    token_from: str  # for messages: an environment variable or a file
    pid: int | None = None  # of the server on this machine, if a file says so
    clients: str | None = None  # its address for clients, likewise

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        from planners.loopback import is_loopback  # brings pydantic, which --help does not need

        return is_loopback(urlsplit(self.url).hostname or "")


class Unreachable(ControlError):
    """No server answers, or not to this token, or it cannot at present; nothing changed."""

    code = "unreachable"


def find_access(
    server: str | None,
    config: Path | None,
    environ: Mapping[str, str],
    engine: EngineKind = EngineKind.VLLM,
) -> Access:
    """The server at ``server``, or the one that runs with this engine on the state of ``config`` (else of
    ./.s3lora).

    A running server writes ``admin.json`` beside its state; it is read anew at each call, since a restart may
    change port and token. The environment's token goes before the file's. Raises ConfigError, Unreachable.
    """
    path, token_env = DEFAULT_FILE, TOKEN_ENV
    if config is not None:
        from s3lora_serve.config import load_config

        settings = load_config(config)
        path, token_env = settings.state.admin_file, settings.admin.token_env
    path = to_own(path, engine)
    token = environ.get(token_env, "").strip()
    if server is None:
        found = _from_file(path)
        if not (token or found.token):
            raise ConfigError(
                f"the server at {found.url} has a token of the operator's, and {token_env} is not set",
                hint=f"set {token_env} to the token that the server was started with",
            )
        return replace(found, token=token, token_from=token_env) if token else found
    url = _checked_url(server)
    if token:
        return Access(url, token, token_env)
    # A token goes to the server that it is from, and to no other.
    if path.exists() and (found := _from_file(path)).url == url and found.token:
        return found
    raise ConfigError(
        f"no token for {url}: {token_env} is not set, and {path} is not of that server",
        hint=f"set {token_env} to the token that the server was started with",
    )


def find_clients_url(config: Path | None, engine: EngineKind = EngineKind.VLLM) -> str | None:
    """Where the server that runs with this engine on the state of ``config`` (else of ./.s3lora) answers.

    None when no server runs there; Unreachable if it was to be a fake one, since what answers elsewhere may
    be real. Raises ConfigError when its admin.json cannot be trusted.
    """
    path = DEFAULT_FILE
    if config is not None:
        from s3lora_serve.config import load_config

        path = load_config(config).state.admin_file
    try:
        return _from_file(to_own(path, engine)).clients
    except Unreachable:
        if engine is EngineKind.FAKE:
            raise
        return None
    except ConfigError as error:  # its hint is for those who give orders
        raise ConfigError(error.message, hint="name the server: --url") from error


def _checked_url(text: str) -> str:
    url = text.rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and not (parts.path or parts.query)
        _ = parts.port  # raises ValueError unless it is a number of a port
    except ValueError:
        valid = False
    if not valid or parts.username is not None:
        raise ConfigError(f"--server {text[:200]!r} is not an address", hint="such as http://127.0.0.1:8001")
    return url


def _from_file(path: Path) -> Access:
    """What a running server wrote. Raises Unreachable without a file, ConfigError if it cannot be used."""
    try:
        # Opened once, so that what is checked is what is read.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        hint = "start s3lora-serve, or name the server: --config planners.yaml, or --server URL"
        if to_own(path, EngineKind.FAKE).exists():
            hint = "one with the fake engine does: --engine fake"
        raise Unreachable(f"no server runs here: there is no {path}", hint=hint) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}",
            hint=f"it is for the user who runs the server; others set {URL_ENV} and {TOKEN_ENV}",
        ) from error
    with os.fdopen(handle, "rb") as file:
        _check_owner(path, os.fstat(file.fileno()))
        raw = file.read(_MAX_BYTES)
    try:
        given = json.loads(raw)
        url, token, pid, clients = given["url"], given["token"], given.get("pid"), given.get("clients")
        texts = isinstance(url, str) and isinstance(token, str) and isinstance(clients, str | None)
        if not (texts and isinstance(pid, int | None)):
            raise TypeError("a value of the wrong type")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is not what a server writes", hint="restart the server") from error
    return Access(_checked_url(url), token, str(path), pid, clients and _checked_url(clients))


def _check_owner(path: Path, status: os.stat_result) -> None:
    # A user who can write the file chooses where the token and the orders go.
    me = os.geteuid()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a regular file")
    if me != 0 and status.st_uid not in (me, 0):
        raise ConfigError(f"{path} belongs to user {status.st_uid}, not to you ({me}); it is not trusted")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be written by others; it is not trusted", hint=f"chmod 600 {path}")
