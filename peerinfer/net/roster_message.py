"""The roster on the wire: statements as bytes, each verified by the receiver before it counts."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.net.messages import Tag, message


@message(Tag.ROSTER)
@dataclass(frozen=True, slots=True)
class RosterStatements:
    """Peer → peer: statements of the mesh's roster, in any order; `Identity.merge_statements` takes them."""

    statements: tuple[bytes, ...]
