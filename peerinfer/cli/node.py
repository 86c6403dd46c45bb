"""`up` and `down`: run this machine's node, here or in the background; stop it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from peerinfer.api.client import ApiClient
from peerinfer.api.record import read_record
from peerinfer.cli import background
from peerinfer.cli.face import has_terminal, show_face
from peerinfer.cli.show import SHORT_ID, note, result
from peerinfer.cli.verbs import Verbs, add_verb, home_of, listen_address, whole_number, with_daemon
from peerinfer.cli.waiting import until
from peerinfer.config import API_PORT, PEER_PORT, Listen, NodeConfig, api_hosts_from_environment, default_name
from peerinfer.errors import DaemonAbsent, PeerinferError
from peerinfer.names import clean_name
from peerinfer.net.address import split_address
from peerinfer.node.home import prepare_home

STOP_S = 30.0
"""How long `down` waits: engines free their memory, links say goodbye."""

THREADS_MAX = 1024
LOG_FILE = "daemon.log"
"""In the home: what a daemon in the background writes."""
_PASSED_ON = ("name", "api", "listen", "peer", "threads", "shards_limit", "no_mdns", "model")
"""Options of `up` that are a daemon's, not this process's."""


def add(verbs: Verbs) -> None:
    """Declares the verbs of this file."""
    up = add_verb(
        verbs,
        "up",
        "run this machine's node",
        run_up,
        "  peerinfer up                     in a terminal: the node in the background, and its face here\n"
        "  peerinfer up --background        the node alone; `peerinfer down` stops it\n"
        "  peerinfer up --headless          the node in this process, for a service manager\n"
        "  peerinfer up --name desk --peer 192.168.1.20:8643\n"
        "  peerinfer up --home /tmp/b --api 127.0.0.1:0 --listen 127.0.0.1:0     a second node on one machine",
    )
    up.set_defaults(parser=up)
    _add_ways(up)
    up.add_argument("--name", default="", help="what to call this node (default: the host name)")
    up.add_argument(
        "--api",
        type=listen_address,
        default=Listen("127.0.0.1", API_PORT),
        metavar="HOST:PORT",
        help=f"where programs on this machine reach it (default: 127.0.0.1:{API_PORT}; port 0 takes a free one)",
    )
    up.add_argument(
        "--listen",
        type=listen_address,
        default=Listen("0.0.0.0", PEER_PORT),  # noqa: S104  (peers are other machines; every link is mutual TLS)
        metavar="HOST:PORT",
        help=f"where other nodes reach it (default: all addresses, port {PEER_PORT})",
    )
    up.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a node to try where mDNS does not reach; may be given several times",
    )
    up.add_argument(
        "--threads",
        type=whole_number(1, THREADS_MAX),
        default=0,
        metavar="N",
        help="threads per stage (default: one for each core)",
    )
    up.add_argument(
        "--shards-limit",
        type=_size,
        default=0,
        metavar="SIZE",
        help="disk space for shards of models, such as 50GB (default: what is needed; 64 MB always stay free)",
    )
    up.add_argument("--no-mdns", action="store_true", help="neither look for nodes by mDNS nor be found by it")
    up.add_argument("--model", default="", help="a model to load once the node is up")
    add_verb(verbs, "down", "stop this machine's node", run_down)


def _add_ways(up: argparse.ArgumentParser) -> None:
    """Where the node runs."""
    way = up.add_mutually_exclusive_group()
    way.add_argument(
        "--headless", action="store_true", help="stay in the foreground and log (so it is anyway without a terminal)"
    )
    way.add_argument("--background", action="store_true", help="start it in the background, and return when it is up")
    up.add_argument(
        "--as-before",
        action="store_true",
        help="take the options that the node was started with last, where none are given",
    )


def _size(text: str) -> int:
    """Bytes from `50GB`, `500 MB` or a plain number."""
    match = re.fullmatch(r"(\d{1,15})\s*(|[KMGT]B)", text.strip().upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write a number and MB, GB or TB, such as 50GB")
    return int(match[1]) * 1000 ** ("", "KB", "MB", "GB", "TB").index(match[2])


def run_up(args: argparse.Namespace) -> int:
    """Runs a node: here until it is told to stop, or in the background, in a terminal together with its face."""
    if args.background:
        result(asyncio.run(_in_background(args))[0])
        return 0
    if not args.headless and has_terminal():
        sentence, is_new = asyncio.run(_in_background(args))
        note(sentence)
        return show_face(home_of(args), _options(args) if is_new else ())
    return _in_foreground(args)


async def _in_background(args: argparse.Namespace) -> tuple[str, bool]:
    """Starts a daemon unless one runs on the home: where it is and how it is stopped, and whether it is a new one.

    Raises a `PeerinferError` with the sentence that the daemon ended with, if it did.
    """
    home = home_of(args)
    stop = "`peerinfer down`" if args.home is None else f'`peerinfer down --home "{args.home}"`'
    if (running := await _running(home)) is not None:
        return _runs_already(args, running, stop), False
    prepare_home(home)
    log = home / LOG_FILE
    daemon = background.DetachedDaemon("The node", home, log)
    options = _options(args) or (background.started_with(home) if args.as_before else [])
    daemon.start(background.NODE_COMMAND, options)
    try:
        await daemon.until_up()
        started = await _running(home)
    except DaemonAbsent:
        daemon.terminate()
        if (running := await _running(home)) is not None:  # another `up` was a moment earlier
            return _runs_already(args, running, stop), False
        raise
    except BaseException:
        daemon.terminate()
        raise
    daemon.let_go()
    background.remember(home, options)
    if started is None:
        raise PeerinferError(f"The node ended as soon as it was up: look into {log}.")
    where = f"its API answers at http://{started['api']}, its log is {log}"
    return f"{started['name']} runs in the background: {where}; {stop} stops it.", True


def _runs_already(args: argparse.Namespace, running: dict[str, str], stop: str) -> str:
    """Says so, and which of the options that were given are too late."""
    told = {"name": clean_name(args.name) == running["name"], "api": str(args.api) == running["api"]}
    late = [_option(name) for name in _given(args) if not told.get(name)]
    if late:
        note(f"A node takes {' and '.join(late)} at its start only, and one runs already: give that after {stop}.")
    shown = f"{running['name']} ({running['id'][:SHORT_ID]})"
    return f"{shown} runs already: its API answers at http://{running['api']}; {stop} stops it."


async def _running(home: Path) -> dict[str, str] | None:
    """`name`, `id` and `api` of the daemon that answers on `home`, if one does."""
    try:
        async with ApiClient(home) as client:
            node = (await client.state())["node"]
            return {"name": node["name"], "id": node["id"], "api": client.record.api}
    except DaemonAbsent:
        return None


def _given(args: argparse.Namespace) -> list[str]:
    """Those of `_PASSED_ON` that are not as they are by default."""
    return [name for name in _PASSED_ON if getattr(args, name) != args.parser.get_default(name)]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _options(args: argparse.Namespace) -> Sequence[str]:
    """What was given, as it is typed."""
    typed: list[str] = []
    for name in _given(args):
        value = _absolute_if_file(args.model) if name == "model" else getattr(args, name)
        values = cast("list[object]", value if isinstance(value, list) else [value])
        typed += [_option(name) if each is True else f"{_option(name)}={each}" for each in values]
    return typed


def _in_foreground(args: argparse.Namespace) -> int:
    from peerinfer.node.daemon import serve

    config = NodeConfig(
        home=home_of(args),
        name=clean_name(args.name) or default_name(),
        api=args.api,
        listen=args.listen,
        peers=tuple(args.peer),
        mdns=not args.no_mdns,
        headless=True,
        threads=args.threads,
        shards_limit_bytes=args.shards_limit,
        model=_absolute_if_file(args.model),
        api_hosts=api_hosts_from_environment(),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("gguf").setLevel(logging.WARNING)  # it tells every shard file that it writes
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(config))
    return 0


def run_down(args: argparse.Namespace) -> int:
    """Stops the node, and waits until it has stopped."""

    async def act(client: ApiClient) -> int:
        async def has_stopped() -> bool:
            try:
                return read_record(home_of(args)).pid != client.record.pid
            except DaemonAbsent:
                return True

        await client.act("down")
        await until(has_stopped, STOP_S)
        result("The node has stopped.")
        return 0

    try:
        return with_daemon(args, act)
    except TimeoutError:
        raise PeerinferError(f"The node still runs after {STOP_S:.0f} seconds: look into its log.") from None


def _peer(text: str) -> str:
    try:
        split_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _absolute_if_file(model: str) -> str:
    path = Path(model).expanduser()
    return str(path.absolute()) if model.lower().endswith(".gguf") and path.is_file() else model


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it exists: it saves about a tenth of a token's time on the data path."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
