"""Authentication: an API key as a bearer token says who calls; without keys only this machine is answered."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from planners.loopback import is_loopback
from s3lora_serve.config.listeners import ANYONE, DEFAULT
from s3lora_serve.errors import ConfigError
from s3lora_serve.server.access.access_log import peer_of
from s3lora_serve.server.error_responses import FORBIDDEN_HOST, error_response

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from s3lora_serve.server.access.refused_credentials import RefusedCredentials

# Orchestrators probe these without credentials; they tell nothing but up or not, and which kind of engine.
# The front page says what every such server says.
OPEN_PATHS = frozenset({"/", "/health", "/livez", "/readyz"})
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


# One key, or the keys by caller.
Keys = str | Mapping[str, str] | None


def by_caller(keys: Keys) -> dict[str, str]:
    """The keys by caller, without those that are empty; one alone is the default caller's."""
    named = keys if isinstance(keys, Mapping) else {DEFAULT: keys or ""}
    return {name: key.strip() for name, key in named.items() if key.strip()}


def check_binding(host: str, keys: Keys) -> None:
    """Refuse to listen where others can reach without an API key. Raises ConfigError."""
    if not by_caller(keys) and not is_loopback(host):
        raise ConfigError(
            f"server.host is {host!r}, which others can reach, and there is no API key",
            hint="set the API key in the environment, or listen on 127.0.0.1",
        )


class RequireKey:
    """ASGI middleware: lets a request through with an API key or, when there is none, to a loopback name.

    Whose key it is stands in ``scope["state"]["caller"]``; without keys everybody is the same caller.
    It stands before routing, so without the key a path that does not exist looks like any other. Asking for a
    loopback name keeps web pages from reaching the port through their own host name (DNS rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        api_key: Keys,
        *,
        open_paths: frozenset[str] = OPEN_PATHS,
        secret: str = "API key",
        refused: RefusedCredentials | None = None,
        key_env: str = "",
    ) -> None:
        """``secret`` is what a refusal calls the key; ``refused`` is told of each one.

        ``key_env``: the variable that a server without keys would read one from, for those whom it refuses.
        """
        self._key_env = key_env
        self._app = app
        self._refused = refused
        self._open = open_paths
        self._secret = secret
        self._digests = {name: _digest(key.encode()) for name, key in by_caller(api_key).items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # no route here speaks it
            return
        if scope["type"] == "http" and scope["path"] not in self._open:
            headers = Headers(scope=scope)
            caller = self._caller(headers)
            scope.setdefault("state", {})["caller"] = caller
            refusal = self._refusal(headers, caller)
            if refusal is not None:
                if refusal.status_code == 401 and self._refused is not None:
                    await self._refused.note(peer_of(scope), sent="authorization" in headers)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _caller(self, headers: Headers) -> str | None:
        """Whose key was sent; None for none or a wrong one."""
        if not self._digests:
            return ANYONE
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent = _digest(token.strip().encode("latin-1"))  # as it came: header bytes are read as latin-1
        # All of them, whichever it is: the time that this takes says nothing.
        found = [name for name, digest in self._digests.items() if hmac.compare_digest(sent, digest)]
        return found[0] if found and scheme.lower() == "bearer" else None

    def _refusal(self, headers: Headers, caller: str | None) -> Response | None:
        if not self._digests:
            return _stranger(headers.get("host", ""), self._key_env)
        if caller is not None:
            return None
        word = self._secret.rpartition(" ")[2].upper()
        return error_response(
            401,
            f"a valid {self._secret} is needed; send it as 'Authorization: Bearer {word}'",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def _stranger(host: str, key_env: str) -> Response | None:
    """A refusal for a Host header that is not well-formed or does not name this machine."""
    name = _HOST.fullmatch(host)
    if name and is_loopback(name[1]):
        return None
    return error_response(
        403,
        f"host {host[:80]!r} is not this machine, and without an API key only localhost is answered; ask as"
        f" localhost or 127.0.0.1, or start the server with an API key in {key_env or 'its variable'}"
        " (server.api_key_env), and send that",
        code=FORBIDDEN_HOST,
    )


def _digest(secret: bytes) -> bytes:
    # Comparing digests takes the same time whatever the length of what was sent.
    return hashlib.sha256(secret).digest()
