"""Several nodes' pipelines in one process, with real engine children, joined by wires in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from peerinfer.clock import monotonic
from peerinfer.control.effects import StageAssignment
from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.errors import LinkDown, UnknownModel
from peerinfer.models.store import ModelStore
from peerinfer.models.warehouse import Warehouse
from peerinfer.net.frames import Epoch
from peerinfer.net.switchboard import Switchboard
from peerinfer.pipeline.gateway import Gateway
from peerinfer.pipeline.requests import Answer, ChatRequest
from peerinfer.pipeline.service import PipelineService
from peerinfer.pipeline.tokenizers import TokenizerPool


class MemorySwitchboard(Switchboard):
    """A switchboard whose links are calls into the other switchboards of the test."""

    def __init__(self, own_id: str, others: dict[str, MemorySwitchboard]) -> None:
        super().__init__(own_id)
        self._others = others
        others[own_id] = self

    def send(self, to: str, message: object) -> None:
        asyncio.get_running_loop().call_soon(self._peer_board(to).take_message, self.own_id, message)

    def try_send_frame(self, to: str, parts: Sequence[bytes | memoryview]) -> bool:
        asyncio.get_running_loop().call_soon(self._peer_board(to).take_frame, self.own_id, b"".join(parts))
        return True

    def local_us(self, sender: str, stamp_us: int) -> int | None:
        return stamp_us

    def is_connected(self, node: str) -> bool:
        return node in self._others

    def cut(self) -> None:
        """This node vanishes: nobody reaches it any more, and everybody hears so."""
        del self._others[self.own_id]
        for other in self._others.values():
            other._tell_peer(self.own_id, False)

    def _peer_board(self, to: str) -> MemorySwitchboard:
        if to not in self._others or self.own_id not in self._others:
            raise LinkDown("That node is gone.")
        return self._others[to]


class House:
    """`nodes` pipelines and gateways, and one instance over all of them, `accelerated` layers of each on a card."""

    def __init__(
        self,
        home: Path,
        model: str,
        nodes: int,
        *,
        context: int = 512,
        slots: int = 4,
        accelerated: int | None = None,
    ) -> None:
        self.store = ModelStore(home)
        self.warehouse = Warehouse(home, self.store, monotonic)
        self._shape = (model, nodes, context, slots)
        self._accelerated = accelerated
        self.ids = [f"{number:032x}" for number in range(1, nodes + 1)]
        boards: dict[str, MemorySwitchboard] = {}
        self.boards = [MemorySwitchboard(node, boards) for node in self.ids]
        self.pipelines = [PipelineService(board, self.warehouse, 1, monotonic) for board in self.boards]
        self.tokenizers = TokenizerPool(self.warehouse)
        self.gateways = [Gateway(board, self, self.tokenizers, monotonic) for board in self.boards]
        self._ticking: list[asyncio.Task[None]] = []

    async def ensure(self, model: str) -> Instance:
        """The gateway's view of control."""
        if model not in ("", self.instance.model):
            raise UnknownModel(f"There is no model {model}.")
        return self.instance

    async def _instance(self) -> Instance:
        model, nodes, context, slots = self._shape
        by_path = model.endswith(".gguf")
        entry = await self.store.add(Path(model)) if by_path else await self.store.find(model)
        layers = entry.facts.n_layers
        bounds = [layers * number // nodes for number in range(nodes + 1)]
        return Instance(
            id="ab" * 16,
            model=entry.name,
            digest=entry.digest,
            epoch=Epoch(1, self.ids[0], 1),
            state=InstanceState.READY,
            stages=tuple(
                StagePlace(node, "llama.cpp", first, last, accelerated=self._accelerated)
                for node, (first, last) in zip(self.ids, itertools.pairwise(bounds), strict=True)
            ),
            context=context,
            slots=slots,
        )

    async def __aenter__(self) -> House:
        self.instance = await self._instance()
        ready = [asyncio.Event() for _ in self.ids]

        def report(stage: int, state: str, reason: str) -> None:
            assert state != "failed", reason
            if state == "ready":
                ready[stage].set()

        for stage, pipeline in enumerate(self.pipelines):
            pipeline.start(
                StageAssignment(self.instance, stage),
                lambda state, reason, _, stage=stage: report(stage, state, reason),
            )
            self._ticking.append(asyncio.create_task(pipeline.run()))
        async with asyncio.timeout(60):
            await asyncio.gather(*(event.wait() for event in ready))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._ticking:
            task.cancel()
        await asyncio.gather(*(pipeline.stop() for pipeline in self.pipelines))
        await self.tokenizers.stop()
        await self.store.stop()

    async def occupied(self) -> list[int]:
        """Taken slots in each stage's own process."""
        runners = [pipeline.runner(self.instance.id, self.instance.epoch) for pipeline in self.pipelines]
        return [(await runner.measure())["slots"] for runner in runners if runner is not None]

    async def until_empty(self) -> None:
        """Waits until every stage has freed every slot."""
        for _ in range(600):
            if not any(await self.occupied()):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("a stage keeps a slot")


async def collect(gateway: Gateway, request: ChatRequest) -> tuple[tuple[int, ...], str, str | None]:
    """Token ids, text and finish of a whole answer."""
    answer = await gateway.open(request)
    text, finish = "", None
    async for delta in answer:
        text += delta.text
        finish = delta.finish
    return answer.token_ids, text, finish


async def read(answer: Answer, after: int, act: Callable[[], object]) -> None:
    """Reads an answer to its end, and calls `act` once `after` pieces have come."""
    seen = 0
    async for _ in answer:
        seen += 1
        if seen == after:
            act()
