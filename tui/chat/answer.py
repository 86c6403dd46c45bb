"""An answer as it comes: its text through restarts, its speed, and what happened to its ring meanwhile. Pure."""

from __future__ import annotations

from typing import Final

from peerinfer.control.state import ClusterState, Epoch, Instance, InstanceState
from tui.mesh.hops import main_instance
from tui.mesh.people import is_lost, shown_name
from tui.mesh.told import NOTHING, Told, number, part, parts, text
from tui.words import harmless, in_list, milliseconds, rate, sentence, stages

RESTARTS_MAX: Final = 3
"""Times that an answer is begun anew after its stages were lost; a mesh that fails more often needs a person."""


class AnswerProgress:
    """One answer. When it must begin anew, what was shown stays until the new text says otherwise.

    With the same seed the model says the same again, so for a reader the answer goes on where it broke off.
    """

    def __init__(self, now: float) -> None:
        self.text = ""
        self.tokens = 0
        self.restarts = 0
        self.reason = ""
        """Why it ended, as OpenAI names it; empty while it comes."""
        self._asked_at = now
        self._first_at: float | None = None
        self._last_at = now
        self._kept = ""
        """What was shown when it broke off last."""
        self._told = NOTHING

    def take(self, chunk: Told, now: float) -> None:
        """Takes a chunk of the stream."""
        for choice in parts(chunk, "choices", 1):
            piece = text(part(choice, "delta"), "content")
            if piece:
                self.text += piece
                self.tokens += 1
                self._first_at = now if self._first_at is None else self._first_at
                self._last_at = now
            self.reason = text(choice, "finish_reason") or self.reason
        self._told = part(chunk, "peerinfer") or self._told

    def begin_anew(self, now: float) -> bool:
        """Its stages were lost: it is asked for again. False if that was tried often enough."""
        if self.restarts >= RESTARTS_MAX:
            return False
        self._kept = self.shown
        self.text, self.tokens, self.reason = "", 0, ""
        self.restarts += 1
        self._asked_at, self._first_at, self._last_at = now, None, now
        return True

    @property
    def shown(self) -> str:
        """What a reader sees: never less than he saw, as long as it is the same."""
        return self._kept if self._kept.startswith(self.text) else self.text

    def speed(self) -> str:
        """How fast it comes, or came; empty before the second token."""
        per_s, first_ms = number(self._told, "tokens_per_s"), number(self._told, "ttft_ms")
        if per_s is None or first_ms is None:
            if self._first_at is None or self.tokens < 2 or self._last_at <= self._first_at:
                return ""
            per_s = (self.tokens - 1) / (self._last_at - self._first_at)
            first_ms = (self._first_at - self._asked_at) * 1000
        return f"{rate(per_s)} tokens/s, first token {milliseconds(first_ms)}"


class RingWatch:
    """Looks at the placement that an answer runs through, and says what happens to it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._epoch: Epoch | None = None
        self._lost: frozenset[str] = frozenset()

    def look(self, state: ClusterState | None) -> str:
        """What happened since the last look, as a sentence; empty if nothing did."""
        instance = instance_of(state, self._model)
        if state is None or instance is None or instance.state is not InstanceState.READY:
            return ""
        lost = frozenset(place.node for place in instance.stages if is_lost(place.node, state))
        new, self._lost = lost - self._lost, lost
        moved = self._epoch is not None and instance.epoch != self._epoch
        self._epoch = instance.epoch
        if new:
            return f"{in_list(shown_name(node, state) for node in sorted(new))} does not answer."
        return f"The layers moved: {route(state, instance)}." if moved else ""


def instance_of(state: ClusterState | None, model: str) -> Instance | None:
    """The placement that serves `model`; the only one that is ready if no model is named."""
    if state is None:
        return None
    mine = [one for one in state.instances if one.model == model or not model]
    return main_instance(state, mine[0].id) if mine else None


def route(state: ClusterState, instance: Instance) -> str:
    """Through which nodes an answer runs."""
    if len({place.node for place in instance.stages}) == 1:
        return f"runs on {shown_name(instance.stages[0].node, state)} alone"
    return " → ".join(stages([(shown_name(place.node, state), place)]) for place in instance.stages)


def unready(state: ClusterState | None, model: str) -> str:
    """Why nothing can be asked of `model` at the moment; empty if it can."""
    instance = instance_of(state, model)
    if instance is None:
        return f"{harmless(model)} is not loaded." if model else "No model is loaded: F3 shows the models."
    if instance.state is InstanceState.READY:
        return ""
    if instance.state is InstanceState.FAILED:
        return f"{harmless(instance.model)} does not run: {sentence(instance.reason)}"
    return f"{harmless(instance.model)} is {instance.state.value}."


def broken(state: ClusterState | None, model: str) -> str:
    """Why an answer of `model` cannot come now: it is not ready, or one of its nodes does not answer."""
    if trouble := unready(state, model):
        return trouble
    instance = instance_of(state, model)
    lost = [place.node for place in instance.stages if is_lost(place.node, state)] if instance and state else []
    return f"{in_list(shown_name(node, state) for node in lost)} does not answer." if lost and state else ""
