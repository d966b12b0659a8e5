"""A request's body that was sent compressed: unpacked within the limit that holds for bodies as they are."""

from __future__ import annotations

import zlib

PACKED = "gzip"
_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say that it reads gzip's header and checks its sum
_PIECE = 2**16


class NotUnpacked(ValueError):
    """The bytes are not gzip, or not all of it."""


def unpacked(body: bytes, most: int) -> bytes:
    """What gzip packed into ``body``: all of it, or its first ``most`` bytes and one more if it is longer.

    No more than that is ever held, whatever a small body unpacks to. Raises NotUnpacked.
    """
    found, left = bytearray(), body
    try:
        while left:  # the format allows several, one after the other
            reader = zlib.decompressobj(_GZIP)
            while not reader.eof:
                found += reader.decompress(left, min(_PIECE, most + 1 - len(found)))
                if len(found) > most:
                    return bytes(found)
                if not reader.unconsumed_tail and not reader.eof:
                    raise NotUnpacked("it ends in the middle")
                left = reader.unconsumed_tail
            left = reader.unused_data
    except zlib.error:
        raise NotUnpacked("it is no gzip") from None
    return bytes(found)
