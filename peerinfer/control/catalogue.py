"""What a model's name means where this node has no file of that name: one that members say they hold. Pure."""

from __future__ import annotations

from collections import Counter

from peerinfer.control.members import Members
from peerinfer.errors import BadRequest, UnknownModel
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import HeldModel, clean

DIGEST_MIN = 8
"""Characters of a digest that may stand for a model: with a home's few models, no two share so many."""


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
            f"No node of this mesh that is up has a model {clean(wanted)!r}; available: {', '.join(names) or 'none'}. "
            "Bring one here with `peerinfer pull`, or name a .gguf file by its path."
        )
    digest = min(digests, key=lambda one: (-digests[one], one))
    return next(model for model in held if model.digest == digest)


def _is_meant(model: HeldModel, matches: list[str], sought: str) -> bool:
    by_digest = len(sought) >= DIGEST_MIN and model.digest.startswith(sought)
    return model.name in matches or (by_digest and not matches)
