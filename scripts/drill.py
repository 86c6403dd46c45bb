"""A drill over real network stacks: hosts in network namespaces meet, pair, answer, lose cables and daemons.

`sudo .venv/bin/python scripts/drill.py` (Linux only) prints its figures as it goes; `--json` prints them as one object.
It makes its own namespaces and removes them; the network of the machine itself stays as it is.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from drill_hosts import Host, Lan, keep_logs, missing, only_drill
from drill_steps import CANARIES, Drill
from drill_wire import Capture


def drill(hosts: Sequence[Host], args: argparse.Namespace, say: Callable[[str], None]) -> Drill:
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


def run(args: argparse.Namespace, out: TextIO) -> Drill:
    """The drill on a network of its own, which is gone afterwards."""
    with Lan(4) as hosts:
        it = drill(hosts, args, lambda text: print(text, file=out, flush=True))
        if args.logs:
            keep_logs(it.members, args.logs)
        return it


def terminated(signal_number: int, _frame: object) -> None:
    """SIGTERM ends the drill as Ctrl-C does: its network is taken away first."""
    sys.exit(128 + signal_number)


def main() -> int:
    """Runs the drill. Returns 0 if everything held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, choices=range(1, 101), default=10, metavar="N", help="meetings (10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, and the rest on stderr")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="leave the daemons' logs there")
    args = parser.parse_args()
    if problem := missing():
        print(problem, file=sys.stderr)
        return 2
    out = sys.stderr if args.json else sys.stdout
    signal.signal(signal.SIGTERM, terminated)
    with only_drill() as is_alone:
        if not is_alone:
            print("Another drill is running on this machine: wait for its end.", file=sys.stderr)
            return 2
        it = run(args, out)
    if args.json:
        print(json.dumps({"figures": it.figures, "failed": it.failed}))
    print(f"{len(it.failed)} failed." if it.failed else "Everything held.", file=out)
    return 1 if it.failed else 0


if __name__ == "__main__":
    sys.exit(main())
