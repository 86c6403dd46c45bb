"""`models --architectures`: which kinds of models can be split over nodes, where, and why others cannot."""

from __future__ import annotations

from peerinfer.cli.show import note, result, result_json, table
from peerinfer.models.architectures import TABLE

OTHERS = "Any other architecture that llama.cpp knows runs whole on one node."


def show_architectures(as_json: bool) -> int:
    """Prints the table; it is the same on every node, so no daemon is asked. Returns the exit code."""
    if as_json:
        rows = [
            {"name": row.name, "cuts": row.cuts, "note": row.note, "whole_only": row.whole_only or None}
            for row in TABLE
        ]
        result_json({"architectures": rows, "others": OTHERS})
        return 0
    split = [(row.name, row.cuts, row.note) for row in TABLE if not row.whole_only]
    whole = [(row.name, row.whole_only) for row in TABLE if row.whole_only]
    result(table(("CAN BE SPLIT", "WHERE", "WHAT IS SPECIAL"), split))
    result("")
    result(table(("RUNS WHOLE ON ONE NODE", "WHY"), whole))
    note(OTHERS)
    return 0
