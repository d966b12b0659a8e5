"""Server-sent events of our wire format, from bytes in pieces of any size."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LINE_BYTES = 1 << 22  # a step is a few kilobytes; a longer line is not our wire format


@dataclass(frozen=True)
class ServerEvent:
    """One event: its name and its data, which is JSON on one line."""

    name: str
    data: str


class EventReader:
    """Feed it bytes, get the events that they complete. Comments, ids and unknown fields are passed over.

    Lines end with LF or CRLF. A lone CR, which the standard also allows, no server of ours writes.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Events that end in this chunk. Raises ValueError for invalid UTF-8, and for an endless line."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r").decode()))]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            event = ServerEvent(self._name or "message", "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None
