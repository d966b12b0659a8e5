"""Slots in vLLM: which are loaded under their name, and which ids must not be used again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.slot_files import read_slot_files
from s3lora_serve.engine.vllm.vllm_client import while_alive
from s3lora_serve.engine.vllm.vllm_errors import translate_load, translated
from s3lora_serve.errors import EngineError, SlotLoadError

if TYPE_CHECKING:
    from s3lora_serve.engine.port import Slot
    from s3lora_serve.engine.signs_of_life import SignsOfLife
    from s3lora_serve.engine.vllm.vllm_tap import RequestTap


class VllmSlots:
    """Loads and unloads adapters through one engine client, and keeps vLLM's slot laws.

    Only slots loaded here may be used: vLLM would load any other from its path in the middle of a step.
    ``models`` is the app's OpenAIServingModels, in which routes look adapters up by name.
    """

    def __init__(self, client: Any, tap: RequestTap, models: Any, signs: SignsOfLife) -> None:
        self._client = client
        self._signs = signs
        self._tap = tap
        self._models = models
        self._requests: dict[int, Any] = {}  # slot id → LoRARequest, of loaded slots
        self._burnt: set[int] = set()
        self._occupied: set[int] = set()  # ids that vLLM was given and has not said to have removed
        self._lock = asyncio.Lock()

    @property
    def base_name(self) -> str:
        """The base model's public name."""
        return str(self._models.base_model_paths[0].name)

    @property
    def capacity(self) -> int:
        """How many slots vLLM holds: ``max_cpu_loras``, which is ``max_loras`` unless set apart."""
        return int(self._client.vllm_config.lora_config.max_cpu_loras)

    async def load(self, slot: Slot) -> None:
        """Load the slot, or nothing if just this slot is loaded. Raises SlotLoadError, EngineDead."""
        async with self._lock:  # check and load are one step
            try:
                with self._signs.loading():
                    await self._load(slot)
            except SlotLoadError:
                if slot.id not in self._requests:
                    self._burnt.add(slot.id)
                raise

    async def unload(self, slot: Slot) -> None:
        """Free the slot, if it is loaded. Raises EngineError while requests run on it, EngineDead."""
        async with self._lock:
            if (request := self._requests.get(slot.id)) is not None:
                self._tap.dismiss(request.lora_name)  # raises; nothing has changed then
                self._models.lora_requests.pop(request.lora_name, None)
                del self._requests[slot.id]
            # Also for ids unknown here: an earlier attempt may have been cancelled on its way to vLLM.
            with translated(f"unloading slot {slot.name}"), self._signs.loading():
                await while_alive(self._client, self._client.remove_lora(slot.id))
            self._occupied.discard(slot.id)

    async def listed(self) -> frozenset[int]:
        """The ids that vLLM itself reports. Raises EngineDead."""
        with translated("listing slots"):
            listed = frozenset(await while_alive(self._client, self._client.list_loras()))
        self._signs.sign()
        return listed

    def request_of(self, slot: Slot) -> Any:
        """The LoRARequest of a loaded slot. Raises EngineError for any other."""
        request = self._requests.get(slot.id)
        if request is None or request.lora_name != slot.name:
            raise EngineError(f"slot {slot.name} (id {slot.id}) is not loaded", hint="load it first")
        return request

    async def _load(self, slot: Slot) -> None:
        if await self._already_loaded(slot):
            return
        read_slot_files(slot)
        request = _lora_request(slot)
        self._occupied.add(slot.id)
        try:
            listed = slot.id in await while_alive(self._client, self._add_and_list(request))
        except BaseException as error:  # cancelled, too
            await self._burn(slot)
            if isinstance(error, Exception):
                raise translate_load(error, slot) from error
            raise
        if not listed:
            await self._burn(slot)
            raise SlotLoadError(
                f"slot {slot.name}: vLLM accepted id {slot.id} but does not list it",
                hint="the engine's log has the details; load it again under a new id",
            )
        self._requests[slot.id] = request
        self._tap.admit(request)
        self._models.lora_requests[slot.name] = request

    async def _add_and_list(self, request: Any) -> frozenset[int]:
        """Add the adapter; the ids that vLLM lists afterwards.

        The engine takes calls between two steps, in the order in which they were sent, so both wait for one
        step: on a busy CPU engine a call costs as much as a token.
        """
        answers = await asyncio.gather(
            self._client.add_lora(request), self._client.list_loras(), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        held: frozenset[int] = frozenset(answers[1])  # type: ignore[arg-type]
        # Listed too early, should some release answer out of order: then once more.
        return held if request.lora_int_id in held else frozenset(await self._client.list_loras())

    async def _already_loaded(self, slot: Slot) -> bool:
        """True if just this slot is loaded; raises SlotLoadError if it must not be loaded."""
        if slot.id in self._burnt:
            raise SlotLoadError(
                f"slot id {slot.id} failed before and is out of use", hint="load it under a new id"
            )
        if slot.name == self.base_name:
            raise SlotLoadError(
                f"slot name {slot.name} is the base model's own name", hint="give the slot another name"
            )
        for id_, request in self._requests.items():
            same = request.lora_name == slot.name and request.lora_path == str(slot.path)
            if id_ == slot.id and same:
                return id_ in await self.listed()
            if id_ == slot.id:
                raise SlotLoadError(f"slot id {id_} is taken by {request.lora_name}", hint="use a new id")
            if request.lora_name == slot.name:
                # Requests compare by name only: two ids under one can end the engine (vllm/lora/request.py).
                raise SlotLoadError(
                    f"slot name {slot.name} is taken by id {id_}", hint="unload that slot first"
                )
        # Only this class loads adapters: the engine need not be asked; what it lists is checked afterwards.
        if len(self._occupied) >= self.capacity:
            raise SlotLoadError(
                f"slot {slot.name}: all {self.capacity} slots are taken, and vLLM would drop one for it",
                hint="raise engine.max_loras; a swap needs one more than there are planners",
            )
        return False

    async def _burn(self, slot: Slot) -> None:
        # vLLM keeps a failed id registered, and a second try serves a half-loaded adapter
        # (vllm/lora/model_manager.py), so this id is out of use for good.
        self._burnt.add(slot.id)
        with suppress(Exception):  # best effort: the load's own error is the one to report
            await while_alive(self._client, self._client.remove_lora(slot.id))
            self._occupied.discard(slot.id)
            self._signs.sign()


def _lora_request(slot: Slot) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=slot.name, lora_int_id=slot.id, lora_path=str(slot.path))
