"""A live server for LangChain clients, and tests that block run beside its loop."""

from __future__ import annotations

import asyncio
import inspect

import pytest
import pytest_asyncio
from blanks import no_blanks
from live_real import live_real


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def live(vllm_engine, demo_base, tmp_path_factory):
    """The demo's search planner behind a real socket, on the session's engine (``live_real.LiveServer``)."""
    async with live_real(vllm_engine, demo_base, tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="session", name="no_blanks")
def _no_blanks(demo_base):
    """``logit_bias`` under which JSON ends."""
    return no_blanks(demo_base)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that use ``live`` and block in a thread: the server needs the session's loop meanwhile."""
    if "live" not in pyfuncitem.fixturenames or pytest_asyncio.is_async_test(pyfuncitem):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    given = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}
    loop = pyfuncitem.funcargs["live"].loop
    loop.run_until_complete(asyncio.to_thread(pyfuncitem.obj, **given))
    return True
