"""A drill over real network stacks: hosts in network namespaces meet, pair, answer, lose cables and daemons.

`sudo .venv/bin/python scripts/drill.py` (Linux only) prints its figures as it goes; `--json` prints them as one object.
It makes its own namespaces and removes them; the network of the machine itself stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from drill_command import Say, carry_out, options
from drill_hosts import Host, Lan, keep_logs
from drill_steps import CANARIES, Drill
from drill_wire import Capture


def drill(hosts: Sequence[Host], args: argparse.Namespace, say: Say) -> Drill:
    """All steps in order."""
    it = Drill(hosts, say)
    it.step("First start", it.first_start)
    it.step("Started together", lambda: it.see(args.repeat, together=True))
    it.step("Started one by one", lambda: it.see(args.repeat, together=False))
    answered: list[str] = []
    with Capture() as capture:
        it.step("Canary", lambda: it.canary(CANARIES[0]))
        paired = it.step("Pairing", it.pair) and it.step("Loading", it.load)
        paired = paired and it.step("Chat", lambda: answered.append(it.chat()))
        it.step("Stranger", it.refuse)
        it.step("Canary", lambda: it.canary(CANARIES[1]))
    it.step("Capture", lambda: it.search(capture, "".join(answered)))
    if paired:
        it.step("Cable", it.cut)
        it.step("Restart", it.restart)
        it.step("Kill", it.kill)
    return it


def run(args: argparse.Namespace, say: Say) -> Drill:
    """The drill on a network of its own, which is gone afterwards."""
    with Lan(4) as hosts:
        it = drill(hosts, args, say)
        if args.logs:
            keep_logs(it.members, args.logs)
        return it


def main() -> int:
    """Runs the drill. Returns 0 if everything held."""
    args = options(__doc__, "meetings").parse_args()
    return carry_out(lambda say: run(args, say), as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
