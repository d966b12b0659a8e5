"""An endpoint's API over HTTP: one JSON body there, one back, and never more than was asked for."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx

from s3lora_serve.safety.guard.endpoint.small_reads import SmallReads
from s3lora_serve.storage.canonical_json import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.config import GuardEndpointConfig

CONNECT_SECONDS = 5.0
CONNECTIONS = 64  # to one endpoint; further questions wait
MAX_ANSWER = 256 * 1024  # bytes; a verdict takes a hundred
MAX_SENT = 2 * MAX_ANSWER  # with headers, lengths of chunks, and whatever comes before
MAX_PAUSE = 5.0  # a longer Retry-After is a failure now
_RESET = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)


@dataclass(frozen=True)
class Reply:
    """What came back: JSON, or ``why`` there is none, which names host and status and nothing else."""

    body: Any = None
    why: str = ""


class GuardRoute:
    """Use as an async context. No proxy of the environment comes between, and no redirect is followed:
    either would be shown what clients asked.
    """

    def __init__(self, endpoint: GuardEndpointConfig, key: str | None, seconds: float) -> None:
        """``key`` is sent as a bearer token; ``seconds`` is how long one answer may take."""
        self.host = endpoint.host
        self._url = endpoint.url.rstrip("/")
        headers = {"content-type": "application/json", "accept": "application/json"}
        # An answer that was packed could be a thousand times as long as what was counted.
        headers["accept-encoding"] = "identity"
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        self._seconds = seconds * 0.9  # so that the host is named before the guard's own time is over
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(self._seconds, connect=min(CONNECT_SECONDS, self._seconds)),
            transport=SmallReads(
                httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
                httpx.create_ssl_context() if self._url.startswith("https:") else None,
                MAX_SENT,
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, path: str, body: Mapping[str, Any]) -> Reply:
        """What POST answers. Raises nothing but cancellation.

        Asked a second time once: on another connection if the first was reset, after Retry-After if that is
        short and leaves time for an answer.
        """
        content, until = canonical_bytes(body), time.monotonic() + self._seconds
        tried = False
        while True:
            try:
                reply, pause = await self._once(path, content)
            except _RESET:
                if tried:
                    return Reply(why=f"{self.host} closed the connection")
                pause = 0.0
            except httpx.TimeoutException as error:
                what = "no connection" if isinstance(error, httpx.ConnectTimeout) else "no answer in time"
                return Reply(why=f"{self.host}: {what}")
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                if type(error) is httpx.ProtocolError:  # what SmallReads raises
                    return Reply(why=f"{self.host} sent over {MAX_SENT} bytes before the end of its answer")
                return Reply(why=f"{self.host}: {type(error).__name__}")
            else:
                if pause is None or tried or pause > min(MAX_PAUSE, (until - time.monotonic()) / 2):
                    return reply
            tried = True
            await asyncio.sleep(pause)

    async def _once(self, path: str, content: bytes) -> tuple[Reply, float | None]:
        """The reply, and after how many seconds to ask again, if that may help."""
        async with self._client.stream("POST", self._url + path, content=content) as answer:
            status = answer.status_code
            if status != 200:
                pause = answer.headers.get("retry-after", "") if status == 429 else ""
                seconds = float(pause) if pause.isascii() and pause.isdigit() else None
                return Reply(why=f"{self.host} answered with status {status}"), seconds
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                return Reply(why=f"{self.host} answered with status 200, and packed"), None
            read = bytearray()
            async for piece in answer.aiter_raw():
                read += piece
                if len(read) > MAX_ANSWER:
                    return Reply(why=f"{self.host} answered with over {MAX_ANSWER} bytes"), None
        try:
            return Reply(json.loads(bytes(read))), None
        except (ValueError, RecursionError):
            return Reply(why=f"{self.host} answered with status 200 and something other than JSON"), None
