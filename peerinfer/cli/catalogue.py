"""`models --catalogue`: what `pull` knows by a short name."""

from __future__ import annotations

import argparse

from peerinfer.cli.show import note, result, result_json, size, table
from peerinfer.cli.verbs import home_of
from peerinfer.models.pull.catalogue import load_catalogue


def show_catalogue(args: argparse.Namespace) -> int:
    """Prints what can be pulled by a short name; no daemon is asked. Returns the exit code."""
    catalogue = load_catalogue(home_of(args))
    if args.json:
        result_json(catalogue.described())
        return 0
    rows = [
        (entry.name, size(entry.download_bytes), size(entry.memory_bytes), entry.licence, entry.about)
        for entry in catalogue.entries
    ]
    result(table(("NAME", "DOWNLOAD", "MEMORY", "LICENCE", ""), rows))
    for problem in catalogue.problems:
        note(problem)
    return 0
