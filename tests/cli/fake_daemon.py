"""A process that acts as `peerinfer up` for tests of what starts one: real home and server, a mesh made of files.

Nodes stand beside one another in one folder. Who joins writes its id there; who is `BROKEN` (by the environment)
ends at its start, does not load, or does not end when asked.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
from pathlib import Path

from peerinfer.api.actions import AskingHandler, JoinWish, OpenInvite, ProgressHandler
from peerinfer.api.replies import JsonObject
from peerinfer.api.server import ApiServer
from peerinfer.config import Listen
from peerinfer.errors import NoPlacement, WrongDigits
from peerinfer.node.home import Home
from tests.api.fakes import FakeChat, FakeNode, eventually

BROKEN = os.environ.get("FAKE_DAEMON", "")


class MeshNode(FakeNode):
    """Knows the others by the files that they wrote."""

    folder: Path

    def status(self) -> JsonObject:
        self.members = {
            file.stem: file.read_text("utf-8") for file in self.folder.glob("*.member") if file.stem != self.id
        }
        return super().status()

    async def invite(self, confirm: bool) -> OpenInvite:
        self._before = len(list(self.folder.glob("*.member")))
        (self.folder / f"{self.id}.member").write_text(self.name, "utf-8")
        return await super().invite(confirm)

    async def invited(self, asking: AskingHandler) -> JsonObject:
        await eventually(lambda: len(list(self.folder.glob("*.member"))) > max(1, self._before))
        return {"node": "", "name": ""}

    async def join(self, wish: JoinWish, progress: ProgressHandler) -> JsonObject:
        if wish.code != self.code or wish.host != "127.0.0.1:9999":
            raise WrongDigits("The six digits do not match.")
        (self.folder / f"{self.id}.member").write_text(self.name, "utf-8")
        return {"mesh": "bb" * 16, "node": "", "name": ""}


async def main() -> None:
    """Runs until `down`."""
    parser = argparse.ArgumentParser()
    for option in ("--home", "--name", "--api", "--listen", "--threads", "--shards-limit", "--peer", "--model"):
        parser.add_argument(option, required=option in {"--home", "--name", "--api", "--listen"})
    parser.add_argument("--no-mdns", action="store_true")
    args = parser.parse_args()
    if BROKEN == "start" and args.name == "demo-2":
        sys.exit("The dog ate the home folder.")
    if BROKEN == "sentence":
        sys.exit("Much is said here.\npeerinfer: The port is taken: choose another one.")
    with Home.open(Path(args.home)) as home:
        node = MeshNode(args.name, hashlib.sha256(args.name.encode()).hexdigest()[:32], loaded=[])
        node.folder = home.path.parent
        if BROKEN == "load":
            node.load_error = NoPlacement("Nothing fits anywhere.")
        server = ApiServer(Listen.parse(args.api), home.token, FakeChat(), node)
        await server.start()
        home.announce(server.address, node.id, "0.1.0")
        await node.stopping.wait()
        if BROKEN != "stop":
            await server.stop()
        else:
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
