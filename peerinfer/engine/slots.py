"""Pure bookkeeping of a stage's slots: who lives there, under which generation, and how far.

llama.cpp accepts any position into an empty cache and returns garbage, so positions are ours to check: a row
is run only if its generation is the slot's and its position is exactly the length held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from peerinfer.engine.base import CloseSlot, OpenSlot, Order, SampledToken, TruncateSlot
from peerinfer.errors import Desync
from peerinfer.net.frames import Row


@dataclass(slots=True)
class Tenant:
    """The sequence in a slot."""

    opening: OpenSlot
    length: int = 0
    """Positions held in the KV cache."""
    produced: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True)
class Forget:
    """Effect: the engine shall forget positions ≥ `length` of `slot`."""

    slot: int
    length: int


class SlotTable:
    """All slots of one stage."""

    def __init__(self, slots: int, context: int) -> None:
        self._context = context
        self._tenants: list[Tenant | None] = [None] * slots
        self._generations = [-1] * slots

    def obey(self, order: Order) -> Forget | None:
        """Applies an order; the effect, if any, must be carried out before the next row.

        An order of a generation older than the slot's is late and does nothing. Raises `Desync` for a slot
        that does not exist.
        """
        if not 0 <= order.slot < len(self._tenants):
            raise Desync(f"There is no slot {order.slot} here.")
        if isinstance(order, OpenSlot):
            if order.generation <= self._generations[order.slot]:
                return None
            self._generations[order.slot] = order.generation
            self._tenants[order.slot] = Tenant(order, produced=list(order.produced))
            return Forget(order.slot, 0)
        if isinstance(order, CloseSlot):
            return self._close(order)
        tenant = self.tenant(order.slot, order.generation)
        return None if tenant is None else self._truncate(tenant, order)

    def _close(self, order: CloseSlot) -> Forget | None:
        """Ends this generation and all before it, even one whose opening never arrived here."""
        if order.generation < self._generations[order.slot]:
            return None
        self._generations[order.slot] = order.generation
        self._tenants[order.slot] = None
        return Forget(order.slot, 0)

    def _truncate(self, tenant: Tenant, order: TruncateSlot) -> Forget | None:
        if not 0 <= order.length <= tenant.length:
            raise Desync(f"Slot {order.slot} holds {tenant.length} positions, not {order.length}.")
        tenant.length = order.length
        return Forget(order.slot, order.length)

    def check(self, rows: Sequence[Row]) -> None:
        """Raises `Desync` unless every row continues what its slot holds. Rows of one slot follow each other."""
        ahead: dict[int, int] = {}
        for row in rows:
            tenant = self.tenant(row.slot, row.generation)
            if tenant is None:
                raise Desync(f"Slot {row.slot} is not held by generation {row.generation} here.")
            length = ahead.get(row.slot, tenant.length)
            if row.position != length:
                raise Desync(f"Slot {row.slot} holds {length} positions, but a row starts at {row.position}.")
            if length + row.count > self._context:
                raise Desync(f"Slot {row.slot} would go beyond its context of {self._context} tokens.")
            ahead[row.slot] = length + row.count

    def advance(self, rows: Sequence[Row]) -> None:
        """Notes that the engine has run `rows`."""
        for row in rows:
            tenant = self._tenants[row.slot]
            if tenant is not None and self._generations[row.slot] == row.generation:
                tenant.length += row.count

    def abandon(self, rows: Sequence[Row]) -> list[Forget]:
        """The engine failed on `rows`: their tenants are gone, since what the cache holds is unknown."""
        forgotten: list[Forget] = []
        for slot in sorted({row.slot for row in rows}):
            self._tenants[slot] = None
            forgotten.append(Forget(slot, 0))
        return forgotten

    def lose(self, slot: int) -> None:
        """The engine holds nothing of `slot` any more."""
        self._tenants[slot] = None

    def tenant(self, slot: int, generation: int) -> Tenant | None:
        """The tenant of `slot` if it is of `generation`."""
        if not 0 <= slot < len(self._tenants) or self._generations[slot] != generation:
            return None
        return self._tenants[slot]

    def sampled(self, row: Row, token: int) -> SampledToken:
        """Records `token` as the next one of the row's sequence and decides whether it ends the answer."""
        tenant = self.tenant(row.slot, row.generation)
        if tenant is None:
            raise Desync(f"Slot {row.slot} is not held by generation {row.generation} here.")
        opening = tenant.opening
        index = len(tenant.produced)
        tenant.produced.append(token)
        finish = ""
        if token in opening.end_tokens:
            finish = "stop"
        elif len(tenant.produced) >= opening.max_tokens:
            finish = "length"
        return SampledToken(row.slot, row.generation, opening.request_id, opening.gateway, index, token, finish)

    @property
    def occupied(self) -> int:
        """Slots with a tenant."""
        return sum(tenant is not None for tenant in self._tenants)
