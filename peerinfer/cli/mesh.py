"""`invite`, `join`, `remove` and `leave`: which machines belong together."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from peerinfer import clock
from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.cli.doorman import Doorman
from peerinfer.cli.models import follow
from peerinfer.cli.qr import qr_text
from peerinfer.cli.show import SHORT_ID, ProgressLine, note, result, result_json
from peerinfer.cli.verbs import Verbs, add_json, add_verb, with_daemon
from peerinfer.errors import PairingError
from peerinfer.identity.invitation import read_code
from peerinfer.net.address import join_address, split_address

_TRUST = (
    "Every machine that runs layers of a request can read that request and its answer. "
    "Join only machines whose owners you trust."
)


def add(verbs: Verbs) -> None:
    """Declares the verbs of this file."""
    invite = add_verb(
        verbs,
        "invite",
        "let another machine join this mesh",
        run_invite,
        "  peerinfer invite            six digits and a QR code; waits until somebody has joined\n"
        "  peerinfer invite --confirm  asks here before a machine that knows the digits comes in\n"
        "  peerinfer invite --json     the code as JSON at once; the window stays open for two minutes",
    )
    way = invite.add_mutually_exclusive_group()
    way.add_argument("--confirm", action="store_true", help="ask here before a machine that knows the digits comes in")
    add_json(way)
    join = add_verb(
        verbs,
        "join",
        "join the mesh of another machine, which shows an invitation",
        run_join,
        "  peerinfer join 482-913\n"
        "  peerinfer join 482-913 --host 192.168.1.20:41875 --yes\n"
        "  peerinfer join 'peerinfer://join?at=192.168.1.20:41875&mesh=...'",
    )
    join.add_argument("code", metavar="CODE", help="the six digits, or the link, that `peerinfer invite` shows")
    join.add_argument("--host", default="", metavar="HOST:PORT", help="where the invitation is open (default: by mDNS)")
    join.add_argument("--yes", action="store_true", help="do not ask whether the other machines are trusted")
    add_json(join)
    remove = add_verb(verbs, "remove", "remove a machine from the mesh for good", run_remove)
    remove.add_argument("node", metavar="NODE", help="its name or id, as in `peerinfer status`")
    add_json(remove)
    add_json(add_verb(verbs, "leave", "leave the mesh, and be a mesh of one again", run_leave))


def run_invite(args: argparse.Namespace) -> int:
    """Opens the window; without `--json`, waits until somebody joined or it closed."""

    async def act(client: ApiClient) -> int:
        if args.json:
            result_json(await client.act("invite", {"wait": False}))
            return 0
        with ProgressLine() as line, Doorman(client, line) as doorman, contextlib.ExitStack() as at_end:
            async for message in client.follow("invite", {"wait": True, "confirm": args.confirm}):
                told: JsonObject = message.get("progress", {})
                if "result" in message:
                    line.end()
                    joined = message["result"]
                    result(f"{joined['name'] or 'A machine'} ({joined['node'][:SHORT_ID]}) has joined the mesh.")
                elif "asking" in told:
                    doorman.ask(told["asking"])
                elif "withdrawn" in told:
                    doorman.withdraw()
                else:
                    result(_invitation_text(told))
                    at_end.callback(_tell_time(line, told["expires_s"], doorman))
        return 0

    return with_daemon(args, act)


def run_join(args: argparse.Namespace) -> int:
    """Joins, after asking whether the other machines are trusted."""
    by_secret = read_code(args.code).by_secret
    if args.host:
        try:
            split_address(args.host)
        except ValueError as error:
            raise PairingError(str(error)) from None
    if not args.yes:
        _ask_for_trust()

    async def act(client: ApiClient) -> int:
        host = args.host or ("" if by_secret else _inviting((await client.state())["nearby"]))
        with ProgressLine() as line:
            joined = await follow(client, "join", {"code": args.code, "host": host}, line)
        if args.json:
            result_json(joined)
        else:
            host_name = joined["name"] or joined["node"][:SHORT_ID]
            result(f"This machine is now in the mesh of {host_name} ({joined['mesh'][:SHORT_ID]}).")
        return 0

    return with_daemon(args, act)


def run_remove(args: argparse.Namespace) -> int:
    """Removes a member."""

    async def act(client: ApiClient) -> int:
        removed = await client.act("remove", {"node": args.node})
        said = f"{removed['name'] or removed['node'][:SHORT_ID]} is no longer a member; no machine here talks to it."
        _tell(args, removed, said)
        return 0

    return with_daemon(args, act)


def run_leave(args: argparse.Namespace) -> int:
    """Leaves the mesh."""

    async def act(client: ApiClient) -> int:
        left = await client.act("leave")
        _tell(args, left, f"This machine has left; it is a mesh of its own now, {left['mesh'][:SHORT_ID]}.")
        return 0

    return with_daemon(args, act)


def _tell(args: argparse.Namespace, body: JsonObject, sentence: str) -> None:
    if args.json:
        result_json(body)
    else:
        result(sentence)


def _invitation_text(window: Mapping[str, Any]) -> str:
    """The digits set wide, the link, and for a terminal the QR code."""
    code = f"{window['code'][:3]}-{window['code'][3:]}"
    lines = [f"\n    {'  '.join(code)}\n", "On the other machine, type:", f"    peerinfer join {code}"]
    lines += ["or, where mDNS does not reach:", f"    peerinfer join '{window['uri']}'\n"]
    if sys.stdout.isatty():
        lines.append(qr_text(window["uri"]))
    return "\n".join(lines)


def _tell_time(line: ProgressLine, seconds: float, doorman: Doorman) -> Callable[[], object]:
    """Shows the time left: from now on where that is a terminal, once elsewhere. Returns what ends it."""
    if sys.stderr.isatty():
        return asyncio.get_running_loop().create_task(_count_down(line, seconds, doorman)).cancel
    note(f"The invitation is open for {seconds:.0f} seconds.")
    return lambda: None


async def _count_down(line: ProgressLine, seconds: float, doorman: Doorman) -> None:
    """Each second, unless a question stands there."""
    end = clock.monotonic() + seconds
    while (left := end - clock.monotonic()) > 0:
        if not doorman.is_asking:
            line.show(f"Open for {left:3.0f} seconds; Ctrl-C closes it.")
        await asyncio.sleep(1)


def _ask_for_trust() -> None:
    """Raises `PairingError` unless a person says yes."""
    if not sys.stdin.isatty():
        raise PairingError(f"{_TRUST} Nobody is here to be asked: say so with --yes.")
    print(f"{_TRUST}\nJoin? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise PairingError("Nothing was joined.")


def _inviting(nearby: list[JsonObject]) -> str:
    """The one open invitation in the neighbourhood. Raises `PairingError` if there is none, or more than one."""
    found = sorted({_pairing_address(entry) for entry in nearby if entry["pairing"]})
    if not found:
        raise PairingError(
            "No open invitation was found nearby by mDNS: run `peerinfer invite` on the other machine and join within "
            "two minutes, or give the link that it shows, or its address with --host HOST:PORT."
        )
    if len(found) > 1:
        raise PairingError(f"Several invitations are open nearby: choose one with --host: {', '.join(found)}.")
    return found[0]


def _pairing_address(entry: Mapping[str, Any]) -> str:
    host, port = split_address(entry["address"])
    return join_address(host, entry.get("pairing_port") or port)
