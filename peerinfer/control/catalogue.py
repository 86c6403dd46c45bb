"""What a model's name means: a file of this node if it has one, else one that members say they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from peerinfer.control.members import Members
from peerinfer.errors import BadRequest, UnknownModel
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import HeldModel, clean
from peerinfer.models.store import ModelEntry, ModelStore

DIGEST_MIN = 8
"""Characters of a digest that may stand for a model: with a home's few models, no two share so many."""


class Models(Protocol):
    """The model files of this node. Calls may block on the disk: they are made in a thread."""

    def listing(self) -> Sequence[HeldModel]:
        """All usable files."""
        ...

    def find(self, name: str) -> HeldModel | None:
        """The file that a name means here; None if none. Raises `BadRequest` or `ModelError` as the store does."""
        ...


class StoredModels:
    """`Models` by the store."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def listing(self) -> Sequence[HeldModel]:
        """All usable files in the store."""
        return tuple(held_model(entry) for entry in self._store.listing().models)

    def find(self, name: str) -> HeldModel | None:
        """The store's file of that name."""
        try:
            return held_model(self._store.find(name))
        except UnknownModel:
            return None


def held_model(entry: ModelEntry) -> HeldModel:
    """What peers are told of a model file. One that must run whole has no cuts."""
    facts = entry.facts
    return HeldModel(
        name=clean(entry.name),
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


def find_in_mesh(wanted: str, members: Members) -> HeldModel:
    """The model that live members hold under this name (or the only one whose name starts so), or with this digest.

    Where files of one name differ, it is the one that most members have. Raises `UnknownModel`, `BadRequest`.
    """
    live = [member for member in members if member.state is Liveness.ALIVE and member.snapshot]
    held = [model for member in live if member.snapshot for model in member.snapshot.models]
    sought = wanted.strip().lower()
    names = sorted({model.name for model in held})
    matches = [sought] if sought in names else [name for name in names if sought and name.startswith(sought)]
    if len(matches) > 1:
        raise BadRequest(f"{clean(wanted)!r} may mean {', '.join(matches)}. Give more of the name.")
    digests = Counter(model.digest for model in held if _is_meant(model, matches, sought))
    if not digests:
        raise UnknownModel(
            f"No node of this mesh that is up has a model {clean(wanted)!r}; available: {', '.join(names) or 'none'}."
        )
    digest = min(digests, key=lambda one: (-digests[one], one))
    return next(model for model in held if model.digest == digest)


def _is_meant(model: HeldModel, matches: list[str], sought: str) -> bool:
    by_digest = len(sought) >= DIGEST_MIN and model.digest.startswith(sought)
    return model.name in matches or (by_digest and not matches)
