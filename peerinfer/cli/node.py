"""`up` and `down`: run this machine's node, stop it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

from peerinfer.api.client import ApiClient
from peerinfer.api.record import read_record
from peerinfer.cli.show import note, result
from peerinfer.cli.verbs import Verbs, add_verb, home_of, listen_address, whole_number, with_daemon
from peerinfer.cli.waiting import until
from peerinfer.config import API_PORT, PEER_PORT, Listen, NodeConfig, api_hosts_from_environment, default_name
from peerinfer.errors import DaemonAbsent, PeerinferError
from peerinfer.names import clean_name
from peerinfer.net.address import split_address

STOP_S = 30.0
"""How long `down` waits: engines free their memory, links say goodbye."""

THREADS_MAX = 1024


def add(verbs: Verbs) -> None:
    """Declares the verbs of this file."""
    up = add_verb(
        verbs,
        "up",
        "run this machine's node",
        run_up,
        "  peerinfer up\n"
        "  peerinfer up --name desk --peer 192.168.1.20:8643\n"
        "  peerinfer up --home /tmp/b --api 127.0.0.1:0 --listen 127.0.0.1:0     a second node on one machine",
    )
    up.add_argument("--headless", action="store_true", help="stay in the foreground and log (for now always so)")
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


def _size(text: str) -> int:
    """Bytes from `50GB`, `500 MB` or a plain number."""
    match = re.fullmatch(r"(\d{1,12})\s*(|[KMGT]B)", text.strip().upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write a number and MB, GB or TB, such as 50GB")
    return int(match[1]) * 1000 ** ("", "KB", "MB", "GB", "TB").index(match[2])


def run_up(args: argparse.Namespace) -> int:
    """Runs a node until it is told to stop."""
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
    if not args.headless:
        note("This node stays in the foreground for now; Ctrl-C stops it.")
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
