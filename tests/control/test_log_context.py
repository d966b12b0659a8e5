"""The log of an operation can be told from what else goes on at the same time."""

from __future__ import annotations

import logging

from orders import order

from s3lora_serve.control.operation import Wanted
from s3lora_serve.fleet.log_context import OPERATION, REQUEST, log_context


async def test_every_line_of_an_operation_names_it(fleet_of):
    """Also those of its tasks in the background; who gave the order is in its own context again."""
    fleet = await fleet_of("p").start()
    fleet.shelf.put("n")
    fleet.engine.fail_load("p@*")
    seen = []

    class Lines(logging.Handler):
        def emit(self, record):
            seen.append((record.name, log_context()))

    handler, token = Lines(), REQUEST.set("r-1")
    logging.getLogger("s3lora_serve").addHandler(handler)
    try:
        operation = await fleet.done(await fleet.control.swap("p", Wanted(source="n"), order()))
    finally:
        logging.getLogger("s3lora_serve").removeHandler(handler)
        REQUEST.reset(token)
    assert operation.step == "failed"
    own = [context for name, context in seen if name.startswith("s3lora_serve.control")]
    assert own
    assert {tuple(context.values()) for context in own} == {("r-1", operation.id)}
    assert OPERATION.get() == ""
