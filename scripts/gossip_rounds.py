"""Prints how many rounds an update needs to be everywhere, and what gossip costs (`tests/sim/gossip_rounds.py`)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.sim import gossip_rounds
from tests.sim.gossip_rounds import Figures, Traffic, measure


def main() -> None:
    """Measures each size of mesh in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 100], metavar="N")
    parser.add_argument("--seeds", type=int, default=20, help="simulated meshes of each size")
    parser.add_argument("--updates", type=int, default=50, help="updates in each mesh, one after the other")
    parser.add_argument("--loss", type=float, default=0.05, help="share of messages that are lost")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON array")
    options = parser.parse_args()
    found = [measure(n, range(options.seeds), options.updates, loss=options.loss) for n in options.nodes]
    if options.json:
        print(json.dumps([dataclasses.asdict(figures) for figures in found], indent=2))
        return
    print((gossip_rounds.__doc__ or "").split("\n\n")[1])
    for figures in found:
        print(f"\n{_text(figures)}")


def _text(found: Figures) -> str:
    return "\n".join(
        (
            f"N = {found.n}, {found.updates} updates",
            f"  rounds   p50 {found.rounds_p50}, p99 {found.rounds_p99}, max {found.rounds_max}",
            f"  seconds  p50 {found.seconds_p50:.2f}, p99 {found.seconds_p99:.2f}, max {found.seconds_max:.2f}",
            f"  sent by each node while nobody changes   {_rate(found.quiet)}",
            f"  while everybody changes each 2 s         {_rate(found.churning)}",
        )
    )


def _rate(sent: Traffic) -> str:
    mean, most = sent.bytes_per_s / 1000, sent.most_bytes_per_s / 1000
    return f"{mean:.1f} kB/s (most {most:.1f}), {sent.messages_per_s:.1f} messages/s"


if __name__ == "__main__":
    main()
