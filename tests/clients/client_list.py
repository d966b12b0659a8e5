"""The clients that are tried: what each was found to do, and where it is installed."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

HERE = Path(__file__).parent
USES = ("chat", "stream", "tools", "structured", "responses", "plans")


class Refusal(BaseModel):
    """What a use gets instead of an answer."""

    model_config = ConfigDict(extra="forbid")

    error: str  # its code
    because: str


class Client(BaseModel):
    """One client; without a script it was not tried."""

    model_config = ConfigDict(extra="forbid")

    name: str
    works: list[str]
    script: str | None = None
    home: str | None = None
    package: str | None = None
    refused: dict[str, Refusal] = {}
    lacks: list[str] = []
    note: str = ""

    @property
    def version(self) -> str:
        """That which the lists of what is installed pin; of the project's own, what is installed."""
        if self.package is None:
            return ""
        if self.home == "project":
            return metadata.version(self.package)
        if self.home == "js":
            locked = json.loads((HERE / "js" / "package-lock.json").read_text())
            return str(locked["packages"][f"node_modules/{self.package}"]["version"])
        pins = (HERE / "python" / "requirements.txt").read_text()
        (found,) = re.findall(rf"^{re.escape(self.package)}(?:\[.*\])?==(\S+)", pins, re.MULTILINE)
        return str(found)


CLIENTS = tuple(Client.model_validate(each) for each in yaml.safe_load((HERE / "clients.yaml").read_text()))
