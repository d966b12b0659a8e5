"""Who gives an order over HTTP: the name they claim, the address they have, and the key of a retry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Header, Request

from s3lora_serve.control.operation import Order

# Printable ASCII: both go into the history and onto terminals.
_Printable = partial(Header, min_length=1, pattern=r"^[ -~]*$")


@dataclass(frozen=True)
class Caller:
    """What the headers of an order say of its sender."""

    actor: str
    key: str | None

    def order(self, reason: str, expected: str | None = None) -> Order:
        """Their order, under this condition."""
        return Order(actor=self.actor, reason=reason, expected=expected, key=self.key)


def caller(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        _Printable(
            max_length=128,
            description="the same order again under the same key returns the same operation",
        ),
    ] = None,
    x_s3lora_actor: Annotated[
        str | None,
        _Printable(
            max_length=100,
            description="who orders, as they say; the peer's address is recorded beside it",
        ),
    ] = None,
) -> Caller:
    """The caller of a request. The address keeps a claimed name from passing for one of ours."""
    peer = request.client.host if request.client else "unknown address"
    return Caller(actor=f"{x_s3lora_actor or 'unnamed'} ({peer})", key=idempotency_key)
