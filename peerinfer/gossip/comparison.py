"""Anti-entropy: what one table holds that another lacks, in bounded portions. Pure.

Push-pull by marks (Demers et al. 1987, "Epidemic algorithms for replicated database maintenance", §1.3): equal
digests end it; else the answer carries marks, and each side sends the other what is newer. A portion is chosen by
chance, so that envelopes which the other side refuses (of a member that it removed already, say) starve no others.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Final

from peerinfer.gossip.envelope import COUNTER_MAX, ENVELOPE_MAX_BYTES, ID_BYTES
from peerinfer.gossip.messages import GossipMarks
from peerinfer.gossip.table import NEVER, Mark, SnapshotTable
from peerinfer.identity.roster import MEMBERS_MAX

PORTION_MAX: Final = 64
"""Envelopes sent for one list of marks; a table of 256 is complete after four rounds."""
PORTION_MAX_BYTES: Final = 256 * 1024
"""The same in bytes: four of the largest, or 64 of 4 kB. Half a second of a slow Wi-Fi link (4 Mbit/s)."""

assert PORTION_MAX_BYTES >= ENVELOPE_MAX_BYTES  # noqa: S101  (else the largest would never be sent)


def marks_out(marks: Mapping[str, Mark], *, complete: bool) -> GossipMarks:
    """The message that tells these marks, in order of node ids."""
    return GossipMarks(tuple((bytes.fromhex(node), *mark) for node, mark in sorted(marks.items())), complete)


def marks_in(message: GossipMarks) -> dict[str, Mark] | None:
    """The marks of a message by node id; None if it breaks a limit."""
    if len(message.marks) > MEMBERS_MAX:
        return None
    marks: dict[str, Mark] = {}
    for node, incarnation, sequence in message.marks:
        if len(node) != ID_BYTES or not (-1 <= incarnation <= COUNTER_MAX and -1 <= sequence <= COUNTER_MAX):
            return None
        marks[node.hex()] = (incarnation, sequence)
    return marks


def lacking(table: SnapshotTable, theirs: Mapping[str, Mark], *, complete: bool, chance: random.Random) -> list[bytes]:
    """A portion of the envelopes that are newer here than `theirs`; of nodes not in `theirs` only if it is complete."""
    absent: Mark = NEVER if complete else (COUNTER_MAX, COUNTER_MAX)
    newer = [
        entry.envelope.data for node, entry in table.entries.items() if entry.envelope.mark > theirs.get(node, absent)
    ]
    chance.shuffle(newer)
    portion: list[bytes] = []
    n_bytes = 0
    for data in newer[:PORTION_MAX]:
        n_bytes += len(data)
        if n_bytes > PORTION_MAX_BYTES:
            break
        portion.append(data)
    return portion


def behind(table: SnapshotTable, theirs: Mapping[str, Mark], members: Collection[str] | None) -> dict[str, Mark]:
    """The greatest marks seen here of those members (None: of all) that are newer in `theirs`."""
    return {
        node: table.seen(node)
        for node, mark in theirs.items()
        if mark > table.seen(node) and (members is None or node in members)
    }
