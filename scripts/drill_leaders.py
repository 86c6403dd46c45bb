"""A drill of leadership: real daemons in network namespaces lose their leader, their wires, and minutes of time.

`sudo .venv/bin/python scripts/drill_leaders.py` (Linux only) prints its figures as it goes; `--json` prints them as
one object. It makes its own namespaces and removes them; the network of the machine itself stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from drill_command import Say, carry_out, options
from drill_hosts import Lan, keep_logs
from drill_leader_steps import LeaderDrill

PAIRS = 5
"""Pairs that stand still at once: ten idle daemons are what two cores carry."""
NETWORKS = {"kill": (3, 0), "term": (5, 0), "cut": (5, 2), "stop": (2 * PAIRS, 0)}
"""Hosts of each step, and how many of them are behind the cable that can be pulled."""
STEPS = ",".join(NETWORKS)


def drill(args: argparse.Namespace, say: Say) -> LeaderDrill:
    """All steps that were asked for, each on a network of its own."""
    it = LeaderDrill(say)
    for step in args.only:
        one_step(it, step, args)
    return it


def one_step(it: LeaderDrill, step: str, args: argparse.Namespace) -> None:
    """A step on a network of its own, which is gone afterwards; its logs are read whether it held or not."""
    works: dict[str, Callable[[], None]] = {
        "kill": lambda: it.kill(args.repeat),
        "term": lambda: it.term(args.repeat),
        "cut": lambda: it.cut(args.repeat),
        "stop": lambda: it.stop(args.repeat, args.stop_s),
    }
    lan = Lan(*NETWORKS[step])
    with lan as hosts:
        it.use(lan, hosts)
        try:
            it.step(step, works[step])
            it.step(f"{step}: logs", lambda: it.check_logs(step))
        finally:
            if args.logs:
                keep_logs(hosts, args.logs / step)


def main() -> int:
    """Runs the drill. Returns 0 if everything held."""
    parser = options(__doc__, "of each step")
    parser.add_argument("--stop-s", type=float, default=60.0, metavar="S", help="how long a process stands still (60)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=tuple(NETWORKS), metavar="A,B", help=f"some of {STEPS}"
    )
    args = parser.parse_args()
    if unknown := [step for step in args.only if step not in NETWORKS]:
        parser.error(f"there is no step {unknown[0]}; choose some of {STEPS}")
    return carry_out(lambda say: drill(args, say), as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
