"""What a client pays for ``import planners``."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

HEAVY = {"httpx", "torch", "vllm", "transformers", "langchain_core", "langchain_openai", "openai", "mcp"}


def test_importing_planners_stays_light():
    """A fresh interpreter has loaded no engine, no HTTP client and no framework afterwards."""
    code = "import sys, planners; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pydantic" in loaded
    assert loaded & HEAVY == set()
