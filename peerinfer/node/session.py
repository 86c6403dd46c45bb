"""One membership at work: everything that belongs to being this node in this mesh, wired together.

A `join` or `leave` changes who the node is and whom it trusts, so it ends one session and begins another; home, API
and model files stay.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from peerinfer.clock import boottime, monotonic, wall
from peerinfer.config import NodeConfig
from peerinfer.control.service import ControlService
from peerinfer.control.state import Neighbour
from peerinfer.control.storage import IntentFile
from peerinfer.control.surroundings import Surroundings
from peerinfer.election.storage import PromiseFile
from peerinfer.errors import UnknownModel
from peerinfer.gossip.service import GossipService
from peerinfer.gossip.snapshot import HeldModel
from peerinfer.gossip.storage import Incarnation
from peerinfer.identity.authority import HINT_PERIOD_S, discovery_hint
from peerinfer.identity.storage import Identity
from peerinfer.models.store import ModelStore
from peerinfer.models.throttle import Throttle
from peerinfer.models.warehouse import Warehouse
from peerinfer.net.address import is_ip_address, split_address
from peerinfer.net.bulk import BulkClient, BulkServer
from peerinfer.net.connector import Connector
from peerinfer.net.dialer import Dialer
from peerinfer.net.discovery import Discovery
from peerinfer.net.peer_book import PeerBook
from peerinfer.net.server import LinkServer
from peerinfer.net.switchboard import Switchboard
from peerinfer.net.tls import MeshTrust
from peerinfer.node.instruments import Instruments
from peerinfer.node.policy import PolicyDesk
from peerinfer.node.portrait import Portrait, held_model
from peerinfer.node.roster_exchange import RosterExchange
from peerinfer.node.signatures import Signatures
from peerinfer.node.solving import Solver
from peerinfer.pipeline.gateway import Gateway
from peerinfer.pipeline.service import PipelineService
from peerinfer.pipeline.tokenizers import TokenizerPool

PEERS_FILE = "peers.json"
PROMISE_FILE = "promise"
INTENTS_FILE = "intents"
RESTART_PAUSE_S = 1.0
"""Before a duty that failed is taken up again, so that a lasting fault does not spin."""

log = logging.getLogger(__name__)


class MeshSession:
    """Links, gossip, control and pipeline of one membership, from `start` to `stop`."""

    def __init__(
        self, config: NodeConfig, identity: Identity, store: ModelStore, warehouse: Warehouse, policy: PolicyDesk
    ) -> None:
        self._config = config
        self._identity = identity
        self._store = store
        self._warehouse = warehouse
        node = identity.node_id
        incarnation = Incarnation(config.home / "incarnation")
        self.switchboard = Switchboard(node)
        trust = MeshTrust(identity)
        self._connector = Connector(trust, self.switchboard, identity.name, incarnation.value)
        self._bulk = BulkClient(trust, self.switchboard)
        self._server = LinkServer(self._connector, BulkServer(warehouse.giver.answer))
        self._dialer = Dialer(self.switchboard, self._connector.dial, PeerBook(config.home / PEERS_FILE))
        self.discovery: Discovery | None = None
        self.roster = RosterExchange(identity, self.switchboard, self._roster_changed)
        trust.on_news = self.roster.heard
        self.instruments = Instruments(config.home, config.threads, self.switchboard, policy)
        meter = self.instruments.speeds
        self._pipeline = PipelineService(self.switchboard, warehouse, config.threads, monotonic, meter)
        self.instruments.is_busy = self._pipeline.is_busy
        self.portrait = Portrait(
            identity.name,
            store,
            warehouse,
            figures=self.instruments.figures(self._pipeline.held),
            collector=self.instruments.collector,
        )
        self.solver = Solver()
        self._signatures = Signatures(identity)
        self._gossip = GossipService(
            identity,
            self._signatures.verify,
            incarnation,
            self.switchboard,
            self.portrait.compose,
            members=self._names,
        )
        policy.changed = self._policy_changed
        self.control = ControlService(
            node,
            self._gossip,
            wires=self.switchboard,
            keeper=self._pipeline,
            around=self._surroundings(),
            chance=random.Random(),  # noqa: S311  (spreads candidates in time; nothing secret)
        )
        self._tokenizers = TokenizerPool(warehouse)
        self.gateway = Gateway(self.switchboard, self.control.requests, self._tokenizers, monotonic)
        warehouse.library.peers = self._bulk
        warehouse.throttle = Throttle(self._pipeline.is_busy, monotonic)
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0
        """Where this node takes links."""

    def _policy_changed(self) -> None:
        self.instruments.engines.look()
        self._gossip.announce()

    async def start(self, listen_port: int, addresses: Sequence[str] = ()) -> None:
        """Listens on `listen_port` (0: any), looks for peers; `addresses` are members to dial first.

        Raises `PortInUse` or `ConfigInvalid`.
        """
        host = self._config.listen.host
        self.port = await self._server.start(host, listen_port)
        await self.instruments.prepare()
        await self.portrait.refresh(lambda: None)
        self._dialer.start((*self._config.peers, *filter(_is_address, addresses)))
        portrait = partial(self.portrait.run, self._gossip.announce)
        duties = (self.roster.run, self._pipeline.run, self._gossip.run, self.control.run, portrait)
        for duty in (*duties, *self.instruments.duties(self._gossip.announce)):
            self._tasks.append(asyncio.create_task(_keep_up(duty)))
        if self._config.mdns:
            self.discovery = Discovery(host, self.port, self._hints, self._dialer.found)
            await self.discovery.start()

    async def stop(self) -> None:
        """Ends stages, links and discovery."""
        try:
            self.control.close()
        except Exception:
            log.exception("Control did not close cleanly; everything else still ends.")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._dialer.close()
        if self.discovery is not None:
            await self.discovery.close()
        await self.solver.stop()
        await self._pipeline.stop()
        await self._tokenizers.stop()
        if self._warehouse.library.peers is self._bulk:
            self._warehouse.library.peers = None
        await self._bulk.close()
        await self._connector.close()
        await self._server.close()

    def times(self) -> list[dict[str, object]]:
        """Where the time of each stage on this node goes, for the bench."""
        return self._pipeline.times()

    def peer_addresses(self) -> tuple[str, ...]:
        """Where a newcomer finds members: this node first (`:port` on the host it pairs with), then its peers."""
        peers = (facts.address for facts in self.switchboard.peers().values())
        return (f":{self.port}", *(address for address in peers if is_ip_address(address)))

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            mesh_id=self._identity.mesh_id,
            signer=self._signatures,
            roster=self._names,
            portrait=self.portrait.compose,
            find=self._find,
            clock=monotonic,
            boottime=boottime,
            promises=PromiseFile(self._config.home / PROMISE_FILE),
            wanted=IntentFile(self._config.home / INTENTS_FILE, self._identity.mesh_id),
            woke=self._woke,
            nearby=self._nearby,
            measured=self._measured,
            solve=self.solver.solve,
        )

    def _names(self) -> Mapping[str, str]:
        return {node: member.name for node, member in self._identity.roster.members.items()}

    async def models_changed(self) -> None:
        """Looks at the model files now, and tells the mesh what there is."""
        await self.portrait.refresh(self._gossip.announce)

    async def add_model(self, path: Path) -> str:
        """Takes in a model file that a person on this machine named; gives its name. Raises as `ModelStore.add`."""
        entry = await self._store.add(path)
        await self.models_changed()
        return entry.name

    async def _find(self, model: str) -> HeldModel | None:
        """A model of this node by its name, which may come from anybody and is never made a path."""
        try:
            entry = await self._store.find(model)
        except UnknownModel:
            return None
        await self.models_changed()
        return held_model(entry.name, entry.digest, entry.size_bytes, entry.facts)

    def _nearby(self) -> list[Neighbour]:
        seen = self.discovery.nearby() if self.discovery is not None else ()
        return [Neighbour(entry.address, entry.pairing, entry.pairing_port) for entry in seen]

    def _measured(self, instance_id: str) -> tuple[float, float] | None:
        return self.gateway.measured(instance_id)

    def _hints(self) -> tuple[bytes, ...]:
        """This hour's hint, and its neighbours for clocks that differ; then those of members that must renew."""
        mesh, secrets = self._identity.mesh_id, self._identity.hint_secrets
        period = int(wall() // HINT_PERIOD_S)
        return tuple(
            discovery_hint(mesh, secret, each) for secret in secrets for each in (period, period - 1, period + 1)
        )

    def _woke(self, _missed_s: float) -> None:
        """The network may be another one now, and links may be dead without knowing it."""
        self._dialer.reconsider()
        if self.discovery is not None:
            self.discovery.rescan()

    def _roster_changed(self) -> None:
        """Roster or CA are others now: who was refused, or refused this node, may be worth a dial."""
        self._dialer.set_removed(self._identity.roster.removed)
        self._dialer.reconsider()


async def _keep_up(duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a duty until cancelled; a fault of this program is logged, and the duty taken up again."""
    while True:
        try:
            await duty()
        except Exception:
            log.exception("A duty of this node failed; it is taken up again.")
        await asyncio.sleep(RESTART_PAUSE_S)


def _is_address(text: str) -> bool:
    """Whether a peer told something that can be dialled."""
    try:
        split_address(text)
    except ValueError:
        return False
    return True
