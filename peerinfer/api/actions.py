"""What the local API needs from the node behind it. `node/` hands in the one that is real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from peerinfer.api.replies import JsonObject
from peerinfer.control.chronicle import Chronicle


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long action has come."""

    text: str
    """A sentence, or part of one, for a person."""
    share: float | None = None
    """Share that is done, 0 … 1; None where it cannot be told."""
    file: str = ""
    """What is fetched now, where files are; then the bytes of all of it count."""
    done_bytes: int = 0
    total_bytes: int = 0
    """0 while it is not known."""


TROUBLES: Final = "troubles"
"""Beside the settings: sentences on what a setting that was just made asks for and this machine cannot do."""

ProgressHandler = Callable[[Progress], None]
"""Takes progress at any rate: what nobody has read yet is replaced by what is newer."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that this node knows."""

    name: str
    digest: str
    """SHA-256 of the file in hex; empty while it is not known."""
    architecture: str
    layers: int
    size_bytes: int
    loaded: bool
    """Whether an instance of it is ready somewhere in the mesh."""
    problem: str = ""
    """Why the file cannot be used, as a sentence; empty for a sound one."""
    here: bool = True
    """Whether this node has all of its files; else it was loaded, or fetched in part, from other nodes."""
    source: str = ""
    """Where it was pulled from; empty for a file that somebody put here."""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class LoadWish:
    """What `load` asks for."""

    model: str
    """A name, the absolute path of a `.gguf` file, or what `pull` takes."""
    context: int = 0
    """Tokens per slot; 0 takes 4096, or fewer where they do not fit."""
    slots: int = 0
    """Sequences served at once; 0 takes 4, or fewer where they do not fit."""
    policy: str = "latency"
    """`latency`, `throughput` or `spread`."""
    min_nodes: int = 1
    """Least number of nodes to split over."""
    stages: tuple[tuple[str, int, int], ...] = ()
    """(node id or name, first layer, end layer) in ring order where a person fixed them; else empty."""


@dataclass(frozen=True, slots=True)
class PlanWish:
    """What `plan` asks about; the fields mean what they mean in `LoadWish`."""

    model: str
    context: int = 4096
    slots: int = 4
    policy: str = "latency"
    min_nodes: int = 1
    without: tuple[str, ...] = ()
    """Nodes to leave out, by id or name."""


def without_options(nodes: Sequence[str]) -> str:
    """`PlanWish.without` as it is typed: `--without desk --without "old lap"`."""
    return " ".join(f'--without "{node}"' if " " in node else f"--without {node}" for node in nodes)


@dataclass(frozen=True, slots=True)
class OpenInvite:
    """An invitation window that is open."""

    code: str
    """Six digits, without a hyphen."""
    uri: str
    """What the QR code holds: addresses, port and a 128-bit secret."""
    port: int
    """Port of the pairing listener."""
    expires_s: float
    """Seconds until the window closes by itself."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A machine that knows the code of an invitation, and waits until a person lets it in."""

    node: str
    name: str
    """As it calls itself, cleaned; may be empty."""


AskingHandler = Callable[[Asking | None], None]
"""Told who asks; None once that one asks no longer."""


@dataclass(frozen=True, slots=True)
class JoinWish:
    """What `join` asks for."""

    code: str
    """Six digits, with or without a hyphen, or the URI of an invitation."""
    host: str = ""
    """`HOST:PORT` of the pairing listener; empty for a URI, which names it."""


class NodeActions(Protocol):
    """One node as its API sees it. Every method raises a `PeerinferError` with a sentence where it cannot do it."""

    def status(self) -> JsonObject:
        """The object of `GET /peerinfer/state`, as interface.md draws it. Cheap: it is polled."""
        ...

    @property
    def chronicle(self) -> Chronicle:
        """State and events of the mesh that this node is in; it ends when the node leaves it or stops."""
        ...

    async def models(self) -> Sequence[ModelInfo]:
        """The models known here, those that peers have loaded included."""
        ...

    async def catalogue(self) -> JsonObject:
        """What can be pulled by a short name: the object of `models --catalogue --json`."""
        ...

    async def pull(self, reference: str, progress: ProgressHandler) -> JsonObject:
        """Brings a model to this machine: `{"model", "digest", "size_bytes", "licence", "source"}`."""
        ...

    async def import_model(self, folder: str, name: str, progress: ProgressHandler) -> JsonObject:
        """Takes in the model in MLX's format that lies in `folder`: `{"model", "digest", "size_bytes", "loss"}`.

        An empty `name` is that of the folder. `loss` is the root of the mean square of what weights are off, relative
        to the weights.
        """
        ...

    async def remove_model(self, model: str) -> JsonObject:
        """Forgets a model and removes its files: `{"model", "freed_bytes"}`. Refuses one that is loaded."""
        ...

    async def load(self, wish: LoadWish, progress: ProgressHandler) -> JsonObject:
        """Loads a model and returns when it is ready: its instance as in `status`."""
        ...

    async def unload(self, model: str) -> None:
        """Lets a model go on all nodes."""
        ...

    async def plan(self, wish: PlanWish) -> JsonObject:
        """Where a model would be placed now, and why: the object of `plan --json`, also where no plan is possible."""
        ...

    async def bench(self, model: str, progress: ProgressHandler) -> JsonObject:
        """Measures this machine with a model (an empty name: what is loaded, or the smallest), and the mesh with it.

        The object of `bench --json`.
        """
        ...

    async def config(self, key: str, value: str | None) -> JsonObject:
        """The settings of this machine by their keys; with a `value`, after `key` was set to it, and `TROUBLES`.

        Raises `BadParameter` for what cannot be set.
        """
        ...

    async def invite(self, confirm: bool) -> OpenInvite:
        """Opens the window. Raises `PairingBusy` if one is open. With `confirm`, `answer` decides who comes in."""
        ...

    async def invited(self, asking: AskingHandler) -> JsonObject:
        """Waits for the end of the open window: `{"node", "name"}` of who joined. `asking` hears of what to `answer`.

        Raises `InviteExpired` or `WrongDigits`.
        """
        ...

    async def answer(self, node: str, accept: bool) -> JsonObject:
        """Lets in who asks to come in, or does not: `{"node", "name", "accepted"}`.

        Raises `PairingError` if that one asks no longer, or cannot be let in.
        """
        ...

    async def close_invite(self) -> None:
        """Closes the window; none open is fine."""
        ...

    async def join(self, wish: JoinWish, progress: ProgressHandler) -> JsonObject:
        """Joins the mesh of the inviting node: `{"mesh", "node", "name"}`, the last two of that node."""
        ...

    async def remove(self, node: str) -> JsonObject:
        """Removes a member, by id or name: `{"node", "name"}`. Its certificates are worth nothing from then on."""
        ...

    async def leave(self) -> JsonObject:
        """Leaves the mesh: `{"mesh"}`, the id of the new mesh of one."""
        ...

    async def down(self) -> None:
        """Asks the daemon to stop; returns at once."""
        ...
