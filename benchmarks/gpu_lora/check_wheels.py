"""Check releases of vLLM for the names that the GPU LoRA plugin replaces: wheels, or folders that hold
``vllm/``.

    python benchmarks/gpu_lora/check_wheels.py vllm-0.26.0-….whl vllm-0.33.0-….whl

Nothing is installed or imported: the sources are read. Exit code 1 if a release lacks one.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from s3lora_serve.engine.vllm.plugins.gpu_lora.names import missing


def of_wheel(file: Path) -> list[str]:
    """What a wheel lacks."""
    with zipfile.ZipFile(file) as wheel:
        names = set(wheel.namelist())
        return missing(lambda name: wheel.read(f"vllm/{name}").decode() if f"vllm/{name}" in names else None)


def of_folder(folder: Path) -> list[str]:
    """What an unpacked release lacks."""

    def read(name: str) -> str | None:
        file = folder / "vllm" / name
        return file.read_text() if file.exists() else None

    return missing(read)


def main() -> int:
    bad = False
    for word in sys.argv[1:]:
        path = Path(word)
        lacks = of_folder(path) if path.is_dir() else of_wheel(path)
        bad |= bool(lacks)
        print(f"{path.name}: {'has every name' if not lacks else ''}")
        for line in lacks:
            print(f"  {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
