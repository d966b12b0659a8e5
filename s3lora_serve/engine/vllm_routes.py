"""Public names in vLLM's OpenAI app: which adapter, or the base model, answers for each."""

from __future__ import annotations

from typing import Any

from s3lora_serve.errors import EngineError


class VllmRoutes:
    """The aliases in one ``OpenAIServingModels``. No method awaits, so none can be seen half done."""

    def __init__(self, models: Any) -> None:
        self._models = models
        self._base = models.base_model_paths[0]

    def set(self, alias: str, lora_request: Any | None) -> None:
        """Let ``model=alias`` mean this adapter (None: the base model). EngineError for the base's name."""
        if alias == self._base.name:
            raise EngineError(
                f"alias {alias!r} is the base model's own name", hint="give the planner another name"
            )
        if lora_request is not None:
            self._models.lora_requests[alias] = lora_request  # looked up before the base names
            self._drop_base_name(alias)
        else:
            if not self._models.is_base_model(alias):
                self._models.base_model_paths.append(type(self._base)(alias, self._base.model_path))
            self._models.lora_requests.pop(alias, None)

    def drop(self, alias: str) -> None:
        """Forget the alias, if there is one."""
        self._models.lora_requests.pop(alias, None)
        if alias != self._base.name:
            self._drop_base_name(alias)

    def aliases_of(self, slot_id: int) -> list[str]:
        """The aliases that mean this slot, sorted."""
        requests = self._models.lora_requests
        return sorted(alias for alias, request in requests.items() if request.lora_int_id == slot_id)

    def _drop_base_name(self, alias: str) -> None:
        # In place: vLLM's registry shares this list.
        paths = self._models.base_model_paths
        paths[:] = [path for path in paths if path.name != alias]
