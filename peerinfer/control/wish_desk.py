"""Requests to load and unload, as the leader takes them. Pure.

A load with the wishes of an instance that stands returns that instance. With other wishes the model is placed anew
beside the old one, which drains once the new one is ready; where memory does not allow both, the old one is dropped
first. `min_nodes` 0 means "any instance of this model will do" (a chat asks so).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from peerinfer.control.advice import StillPlanning
from peerinfer.control.intents import Intent, IntentBook
from peerinfer.control.messages import LoadRequest, UnloadRequest
from peerinfer.control.placed import Placed
from peerinfer.control.placements import Placements
from peerinfer.control.planning import Wishes, model_of, variants
from peerinfer.control.state import InstanceState
from peerinfer.errors import NoLeader, NoPlacement, PeerinferError, QueueFull, UnknownModel

WAITING_MAX: Final = 64
"""Requests that wait for a load: a gateway waits once per model, so this is many people at many nodes."""

_LOADING, _READY, _FAILED = InstanceState.LOADING, InstanceState.READY, InstanceState.FAILED


class WishDesk:
    """Takes what people want: an intent is minted and told before anybody hears that it was taken."""

    def __init__(self, intents: IntentBook, placements: Placements) -> None:
        self._intents = intents
        self._all = placements
        self._out = placements.out
        self._planning: dict[tuple[str, str], LoadRequest | UnloadRequest] = {}
        """Requests that wait for a plan, by node and request id: each is looked at again when there may be one."""

    def receive(self, sender: str, message: LoadRequest | UnloadRequest, now: float) -> None:
        """Does what is asked, or answers why not, now or when there is a plan."""
        key = (sender, message.request_id)
        try:
            self._request(sender, message, now)
        except StillPlanning as error:
            if key not in self._planning and len(self._planning) >= WAITING_MAX:
                self._out.reply(sender, message.request_id, error.code, str(error))
            else:
                self._planning[key] = message
            return
        except PeerinferError as error:
            self._out.reply(sender, message.request_id, error.code, str(error))
        self._planning.pop(key, None)

    def look_again(self, now: float) -> None:
        """The solver may have answered what requests wait for."""
        for (sender, _), message in list(self._planning.items()):
            self.receive(sender, message, now)

    def clear(self) -> None:
        """This node leads no more; those who wait ask the next leader themselves."""
        self._planning.clear()

    def _request(self, sender: str, message: LoadRequest | UnloadRequest, now: float) -> None:
        if self._out.ballot is None:
            raise NoLeader("This node does not lead the mesh; ask the leader.")
        if self._out.has_answered(sender, message.request_id):
            return
        if isinstance(message, UnloadRequest):
            self._unload(sender, message)
        elif not any((sender, message.request_id) in placed.waiting for placed in self._all):
            self._load(sender, message, now)

    def _load(self, sender: str, request: LoadRequest, now: float) -> None:
        model = model_of(request.digest, self._all.members)
        if model is None:
            raise UnknownModel(f"No node of this mesh that is up has the file of {request.model}.")
        ways = variants(request, model)
        intent = self._intents.find(request.digest)
        known = intent if intent is not None and intent.is_wanted else None
        meant = known is not None and (request.min_nodes == 0 or known.wishes in ways)
        match = self._standing(request.digest, known if meant else None, any_will_do=request.min_nodes == 0)
        if match is None or self._out.is_quiet:
            self._check_time(known)
        if match is None:
            self._check_waiting()
            if meant and known is not None:
                match = self._all.place_wanted(known, now)
                self._clear_failed(match)
            else:
                match = self._replace_by_any(sender, model.name, ways, now)
        if match.state is _READY:
            self._out.acknowledge(sender, request.request_id, match.instance.id, request.digest)
        else:
            self._check_waiting()
            match.waiting.append((sender, request.request_id))

    def _standing(self, digest: str, intent: Intent | None, *, any_will_do: bool) -> Placed | None:
        """What a request can use as it is."""
        live = [placed for placed in self._all.of(digest) if placed.is_live]
        return next((one for one in live if any_will_do or (intent and one.instance.id == intent.id)), None)

    def _check_time(self, known: Intent | None) -> None:
        """Raises `NoLeader`, upon which is asked again, while it is too early to place."""
        if self._all.is_joining:
            raise NoLeader("The leader still hears from the other nodes what they hold.")
        if known is not None and not self._all.has_heard_all:
            raise NoLeader("The leader waits for a node that may hold this model already.")

    def _check_waiting(self) -> None:
        if sum(len(placed.waiting) for placed in self._all) >= WAITING_MAX:
            raise QueueFull(f"{WAITING_MAX} requests wait for models to load already; try again soon.")

    def _replace_by_any(self, sender: str, model: str, ways: Sequence[Wishes], now: float) -> Placed:
        """By the first wishes that fit. Raises what the first raised if none do."""
        refused: NoPlacement | None = None
        for wishes in ways:
            try:
                return self._replace(sender, model, wishes, now)
            except NoPlacement as error:
                refused = refused or error
        raise refused or NoPlacement("Nothing was asked for.")

    def _replace(self, sender: str, model: str, wishes: Wishes, now: float) -> Placed:
        """A placement by other wishes: a loading one gives way at once, a ready one when the new is ready (or must)."""
        same = self._all.of(wishes.digest)
        loading = [placed for placed in same if placed.state is _LOADING]
        live = [placed for placed in same if placed.is_live]

        def mint() -> Intent:
            statement = self._intents.mint(wishes.digest, model, wishes, sender)
            fresh = self._intents.find(wishes.digest)
            if fresh is None:
                raise NoPlacement("Too many models are wanted in this mesh; unload one first.")
            self._out.state(statement)
            return fresh

        going = loading
        try:
            fresh = self._all.place(model, wishes, sender, now, leaving=loading, mint=mint)
        except NoPlacement:
            if len(live) == len(loading):
                raise
            going = live
            fresh = self._all.place(model, wishes, sender, now, leaving=live, mint=mint)
        for placed in going:
            self._out.answer(placed, NoPlacement.code, f"Somebody asked for {model} with other wishes meanwhile.")
            self._all.remove(placed)
        self._clear_failed(fresh)
        return fresh

    def _clear_failed(self, fresh: Placed) -> None:
        for placed in self._all.of(fresh.instance.digest):
            if placed.state is _FAILED:
                self._all.remove(placed)

    def _unload(self, sender: str, request: UnloadRequest) -> None:
        wanted = request.model
        found = [placed for placed in self._all if wanted in placed.names]
        digests = dict.fromkeys([one.instance.digest for one in found])
        digests |= dict.fromkeys([intent.digest for intent in self._intents.named(wanted, buried=request.is_repeated)])
        digests |= dict.fromkeys(self._call_off(wanted, digests))
        if not digests:
            raise UnknownModel(f"{wanted} is not loaded; `peerinfer status` shows what is.")
        for digest in digests:
            intent = self._intents.find(digest)
            if intent is not None and intent.is_wanted:
                self._out.state(self._intents.bury(intent))
            for placed in self._all.of(digest):
                self._out.answer(placed, NoPlacement.code, _unloaded(placed.instance.model))
                self._all.remove(placed)
            self._out.acknowledge(sender, request.request_id, intent.id if intent else "", digest)

    def _call_off(self, wanted: str, digests: Collection[str]) -> list[str]:
        """Loads of a model that wait for a plan are not wanted any more, either. Returns their digests."""
        loads = {key: one for key, one in self._planning.items() if isinstance(one, LoadRequest)}
        found = {key: one for key, one in loads.items() if wanted in (one.model, one.digest) or one.digest in digests}
        for (sender, request_id), load in found.items():
            del self._planning[sender, request_id]
            self._out.reply(sender, request_id, NoPlacement.code, _unloaded(load.model))
        return [load.digest for load in found.values()]


def _unloaded(model: str) -> str:
    return f"{model} was unloaded while it was loading."
