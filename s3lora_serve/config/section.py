"""What every section of planners.yaml has in common: typed, frozen, and no unknown key."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# A name of an environment variable: the file says where a secret is, and never what it is.
ENV_NAME = "^[A-Za-z_][A-Za-z0-9_]*$"


class Section(BaseModel):
    """Base of all sections."""

    # strict: YAML already has types, so `top: yes` is a mistake and must not become 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
