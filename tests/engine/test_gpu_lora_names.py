"""The names of vLLM that the GPU LoRA plugin replaces are there, and the check finds one that is not."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from s3lora_serve.engine.vllm.plugins.gpu_lora.names import NAMES, missing


@pytest.fixture(scope="module")
def installed():
    """Reads a file of the installed vLLM, which is not imported."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("vLLM is not installed")
    root = Path(spec.origin).parent
    return lambda name: (root / name).read_text() if (root / name).exists() else None


def test_the_installed_release_has_every_name(installed):
    """What the plugin replaces or reads exists, with the parameters and reads that it counts on."""
    assert missing(installed) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def _apply_sync", "def _apply_now", "base_linear.py: no BaseLinearLayerWithLoRA._apply_sync"),
        ("self._apply_sync(x", "self._other(x", "BaseLinearLayerWithLoRA.apply reads no _apply_sync"),
        ("reset_lora(self, index", "reset_lora(self, slot", "reset_lora takes no index"),
    ],
)
def test_a_release_that_lacks_one_is_found(installed, old, new, said):
    """A name that went, a parameter that was renamed and a way round the plugin each give a line."""

    def changed(name):
        text = installed(name)
        return text.replace(old, new) if name.endswith("base_linear.py") else text

    assert any(said in line for line in missing(changed))


def test_a_release_without_a_file_is_found():
    """A file that moved gives a line for each name in it."""
    assert len(missing(lambda name: None)) == len(NAMES)
