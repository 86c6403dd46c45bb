"""What this node tells of itself: the snapshot, put together from telemetry, model files and held stages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import peerinfer
from peerinfer.gossip.snapshot import (
    FREE_POLICY,
    RANGES_MAX,
    Device,
    EngineSpeed,
    HeldModel,
    HeldStage,
    LinkFigure,
    OwnerPolicy,
    Snapshot,
)
from peerinfer.models.facts import ModelFacts
from peerinfer.models.store import ModelStore
from peerinfer.models.warehouse import Warehouse
from peerinfer.telemetry.collector import Collector

MODELS_EVERY_S = 5.0
"""How often the models folder is looked at; a listing that is cached takes a fraction of a millisecond."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What other rooms measured or were told, asked for at each snapshot."""

    held: Callable[[], tuple[HeldStage, ...]]
    links: Callable[[], tuple[LinkFigure, ...]] = tuple
    speeds: Callable[[], tuple[EngineSpeed, ...]] = tuple
    policy: Callable[[], OwnerPolicy] = lambda: FREE_POLICY
    accelerators: Callable[[], tuple[str, ...]] = tuple
    engines: Callable[[], tuple[str, ...]] = tuple
    """Those that run layers here, the preferred one first."""
    unable: Callable[[], tuple[tuple[str, str], ...]] = tuple
    troubles: Callable[[], tuple[tuple[str, str], ...]] = tuple
    """Of engines: which, and why it does not run here."""


class Portrait:
    """Composes snapshots. The model list is refreshed in the background, since hashing a new file takes seconds."""

    def __init__(
        self,
        name: str,
        store: ModelStore,
        warehouse: Warehouse,
        *,
        figures: Figures,
        collector: Collector,
    ) -> None:
        self._name = name
        self._store = store
        self._warehouse = warehouse
        self._figures = figures
        self._collector = collector
        self.models: tuple[HeldModel, ...] = ()

    def compose(self) -> Snapshot:
        """This node as it is now."""
        hardware = self._collector.hardware
        return Snapshot(
            name=self._name,
            version=peerinfer.__version__,
            memory_bytes=hardware.memory_bytes,
            memory_free_bytes=hardware.memory_free_bytes,
            devices=tuple(Device(**asdict(each)) for each in hardware.devices),
            on_battery=hardware.on_battery,
            engines=self._figures.engines(),
            models=self.models,
            stages=self._figures.held(),
            disk_free_bytes=self._warehouse.room_bytes(),
            policy=self._figures.policy(),
            links=self._figures.links(),
            speeds=self._figures.speeds(),
            battery_percent=hardware.battery_percent,
            lid_closed=hardware.lid_closed,
            user_active=hardware.user_active,
            thermal=hardware.thermal,
            swap_used_bytes=hardware.swap_used_bytes,
            troubles=(*hardware.troubles, *self._figures.troubles()),
            accelerators=self._figures.accelerators(),
            unable=self._figures.unable(),
        )

    async def run(self, announce: Callable[[], None]) -> None:
        """Watches the models folder until cancelled; `announce` is called when the list has changed."""
        while True:
            await self.refresh(announce)
            await asyncio.sleep(MODELS_EVERY_S)

    async def refresh(self, announce: Callable[[], None]) -> None:
        """Looks at the model files now."""
        listing = await self._store.listing()
        models = [held_model(entry.name, entry.digest, entry.size_bytes, entry.facts) for entry in listing.models]
        for dossier in await self._warehouse.library.partial_models():
            name = self._warehouse.library.name_of(dossier.digest)
            model = held_model(name, dossier.digest, dossier.manifest.n_bytes, dossier.facts)
            held = (await self._warehouse.library.held_ranges(dossier))[:RANGES_MAX]
            models.append(replace(model, tensors=len(dossier.manifest.tensor_bytes), held=held))
        if tuple(models) != self.models:
            self.models = tuple(models)
            announce()


def held_model(name: str, digest: str, size_bytes: int, facts: ModelFacts) -> HeldModel:
    """What placement on another node needs to know of a model here."""
    return HeldModel(
        name=name,
        digest=digest,
        size_bytes=size_bytes,
        layers=facts.n_layers,
        layer_bytes=max(facts.layer_bytes),
        embedding_bytes=facts.embedding_bytes,
        head_bytes=facts.head_bytes,
        kv_bytes=facts.kv_bytes_per_token_per_layer,
        context_length=facts.context_length,
        legal_cuts=facts.legal_cuts,
        architecture=facts.architecture,
        quantisation=facts.quantisation,
        width=facts.n_embd,
        mlx_layer_bytes=max(facts.mlx_layer_bytes, default=0),
        mlx_head_bytes=facts.mlx_head_bytes,
    )
