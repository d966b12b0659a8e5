"""In place of the program that asks vLLM: it does what ``mode`` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

out, folder, arguments = sys.argv[1:4]
given = json.loads(arguments)
Path(out).write_text(json.dumps({"architecture": "X", "lora": True, "renames": [["prefix", "a.", "b."]]}))
match given["mode"]:
    case "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(given["told"]).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(60)
    case "grow":
        held = bytearray(400 << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(60)
    case "die":
        os.abort()
    case "tell":
        facts = {
            "config": json.loads((Path(folder) / "config.json").read_bytes()),
            "environment": sorted(os.environ),
            "offline": os.environ.get("HF_HUB_OFFLINE"),
            "path": sys.path[0],
        }
        Path(out).write_text(json.dumps(facts))
