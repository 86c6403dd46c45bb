"""What this node tells of itself: the snapshot, put together from telemetry, model files and held stages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import peerinfer
from peerinfer.clock import Clock
from peerinfer.gossip.snapshot import Device, HeldModel, HeldStage, Snapshot
from peerinfer.models.store import ModelEntry, ModelStore
from peerinfer.telemetry.collector import Collector

ENGINES = ("llama.cpp",)
MODELS_EVERY_S = 5.0
"""How often the models folder is looked at; a listing that is cached takes a fraction of a millisecond."""


class Portrait:
    """Composes snapshots. The model list is refreshed in the background, since hashing a new file takes seconds."""

    def __init__(
        self,
        name: str,
        store: ModelStore,
        held: Callable[[], tuple[HeldStage, ...]],
        collector: Collector,
        clock: Clock,
    ) -> None:
        self._name = name
        self._store = store
        self._held = held
        self._collector = collector
        self._clock = clock
        self.models: tuple[HeldModel, ...] = ()

    def compose(self) -> Snapshot:
        """This node as it is now."""
        hardware = self._collector.hardware(self._clock())
        return Snapshot(
            name=self._name,
            version=peerinfer.__version__,
            memory_bytes=hardware.memory_bytes,
            memory_free_bytes=hardware.memory_free_bytes,
            devices=tuple(
                Device(each.kind, each.name, each.memory_bytes, each.memory_free_bytes, each.cores)
                for each in hardware.devices
            ),
            on_battery=hardware.on_battery,
            engines=ENGINES,
            models=self.models,
            stages=self._held(),
        )

    async def run(self, announce: Callable[[], None]) -> None:
        """Watches the models folder until cancelled; `announce` is called when the list has changed."""
        while True:
            await self.refresh(announce)
            await asyncio.sleep(MODELS_EVERY_S)

    async def refresh(self, announce: Callable[[], None]) -> None:
        """Looks at the model files now."""
        listing = await asyncio.to_thread(self._store.listing)
        models = tuple(held_model(entry) for entry in listing.models)
        if models != self.models:
            self.models = models
            announce()


def held_model(entry: ModelEntry) -> HeldModel:
    """What placement on another node needs to know of a model file here."""
    facts = entry.facts
    return HeldModel(
        name=entry.name,
        digest=entry.digest,
        size_bytes=entry.size_bytes,
        layers=facts.n_layers,
        layer_bytes=max(facts.layer_bytes),
        embedding_bytes=facts.embedding_bytes,
        head_bytes=facts.head_bytes,
        kv_bytes=facts.kv_bytes_per_token_per_layer,
        context_length=facts.context_length,
        legal_cuts=facts.legal_cuts,
    )
