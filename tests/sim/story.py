"""Stories: text files of commands to a simulated mesh, each followed by what it prints.

A line that begins with `> ` is a command, the lines up to the next one are what it must print, `#` is a comment. The
commands are the methods of `Teller`; hosts are numbered from 1, models are `d` and `e`. All invariants are watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peerinfer.control.messages import LoadRequest, UnloadRequest
from peerinfer.control.state import Instance
from peerinfer.election.ballot import Ballot
from peerinfer.gossip.snapshot import OwnerPolicy
from tests.sim.ground import GB, MODELS
from tests.sim.host import Host
from tests.sim.mesh import Mesh


class Teller:
    """One story's mesh. Every command gives the lines that it prints."""

    def __init__(self) -> None:
        self._mesh: Mesh | None = None
        self._cut: set[tuple[str, str]] = set()
        self._naps: dict[int, float] = {}
        self._told = 0

    @property
    def mesh_(self) -> Mesh:
        assert self._mesh is not None, "a story begins with `> mesh N`"
        return self._mesh

    def tell(self, command: str) -> list[str]:
        """Does one command."""
        verb, *words = command.split()
        verbs: dict[str, Callable[..., Iterator[str]]] = {
            name: getattr(self, f"do_{name}") for name in (each[3:] for each in dir(self) if each.startswith("do_"))
        }
        return list(verbs[verb](*words))

    # Time and people

    def do_mesh(self, count: str, seed: str = "1") -> Iterator[str]:
        """So many hosts start."""
        self._mesh = Mesh(int(count), int(seed))
        yield from ()

    def do_run(self, seconds: str) -> Iterator[str]:
        """Virtual time passes."""
        self.mesh_.run(float(seconds))
        yield from ()

    def do_load(self, model: str, host: str, *wishes: str) -> Iterator[str]:
        """`load d 1 nodes=2 slots=1`: somebody at host 1 loads a model."""
        values = dict(wish.split("=") for wish in wishes)
        found = _model(model)
        number = str(self.mesh_.next_number())
        request = LoadRequest(
            number,
            found.name,
            found.digest,
            1024,
            int(values.get("slots", 1)),
            values.get("policy", "latency"),
            int(values.get("nodes", 1)),
        )
        self._ask(self._host(host), request, found.digest)
        yield from ()

    def do_unload(self, model: str, host: str) -> Iterator[str]:
        """Somebody at a host unloads a model."""
        found = _model(model)
        self._ask(self._host(host), UnloadRequest(str(self.mesh_.next_number()), found.digest), found.digest)
        yield from ()

    def do_remove(self, host: str, by: str) -> Iterator[str]:
        """`remove 3 1`: host 1 removes host 3 from the mesh."""
        self._host(by).learn_removals(frozenset({self._host(host).id}))
        yield from ()

    # Disasters

    def do_kill(self, host: str) -> Iterator[str]:
        """kill -9."""
        self._host(host).crash()
        yield from ()

    def do_term(self, host: str) -> Iterator[str]:
        """SIGTERM."""
        self._host(host).stop()
        yield from ()

    def do_start(self, host: str) -> Iterator[str]:
        """Starts a host that is off."""
        self._host(host).start()
        yield from ()

    def do_sleep(self, *hosts: str) -> Iterator[str]:
        """Lids close."""
        for host in hosts:
            self._naps[int(host)] = self._host(host).pause()
        yield from ()

    def do_wake(self, *hosts: str) -> Iterator[str]:
        """Lids open; what was sent meanwhile is lost."""
        for host in hosts:
            self._host(host).resume(self._naps.pop(int(host)), slept=True, keeps_inbox=False)
        yield from ()

    def do_cont(self, *hosts: str) -> Iterator[str]:
        """SIGCONT after a `sleep` that was a SIGSTOP: the clock went on, and what was sent meanwhile is there."""
        for host in hosts:
            self._host(host).resume(self._naps.pop(int(host)), slept=False, keeps_inbox=True)
        yield from ()

    def do_cut(self, *words: str) -> Iterator[str]:
        """`cut 1 2 | 3`: the two sides do not reach each other."""
        split = words.index("|")
        left, right = ([self._host(word).id for word in side] for side in (words[:split], words[split + 1 :]))
        pairs = {(a, b) for a in left for b in right}
        self._cut |= pairs | {(b, a) for a, b in pairs}
        self.mesh_.network.block(self._cut)
        yield from ()

    def do_heal(self) -> Iterator[str]:
        """All cables are in again."""
        self.mesh_.network.heal(self._cut)
        self._cut = set()
        yield from ()

    def do_hold(self, kind: str, to: str) -> Iterator[str]:
        """`hold DropStage 2`: messages of this class to host 2 are under way for very long, until `arrive`."""
        self.mesh_.network.delayed = (kind, self._host(to).id)
        yield from ()

    def do_arrive(self) -> Iterator[str]:
        """What was held arrives now."""
        network = self.mesh_.network
        network.delayed = None
        waiting, network.late = network.late, []
        for sender, to, message in waiting:
            network.deliver(sender, to, message)
        yield f"{len(waiting)} late"

    def do_battery(self, host: str) -> Iterator[str]:
        """A host runs on battery from now on."""
        self._host(host).on_battery = True
        yield from ()

    def do_tell(self, host: str, *words: str) -> Iterator[str]:
        """`tell 2 lid_closed=yes thermal=critical free=0.2`: what a host says of itself (`free` in GB)."""
        for word in words:
            name, value = word.split("=")
            if name == "free":
                self._host(host).told["memory_free_bytes"] = int(float(value) * GB)
            else:
                self._host(host).told[name] = {"yes": True, "no": False}.get(value, value)
        yield from ()

    def do_policy(self, host: str, *words: str) -> Iterator[str]:
        """`policy 2 keep_light`: what its owner allows; no word takes all back."""
        self._host(host).told["policy"] = OwnerPolicy(**dict.fromkeys(words, True))
        yield from ()

    def do_speed(self, host: str, layer_us: str) -> Iterator[str]:
        """What a layer takes on a host, in microseconds."""
        self._host(host).layer_us = float(layer_us)
        yield from ()

    def do_link(self, a: str, b: str, rtt_us: str) -> Iterator[str]:
        """The round trip between two hosts, as both measured it."""
        for origin, target in ((a, b), (b, a)):
            self._host(origin).rtt_us[self._host(target).id] = float(rtt_us)
        yield from ()

    def do_noise(self, percent: str) -> Iterator[str]:
        """Every measurement of every host is off by up to so much, each time anew."""
        for host in self.mesh_.hosts:
            host.noise = float(percent) / 100
        yield from ()

    def do_fails(self, host: str) -> Iterator[str]:
        """What a host loads next, it fails to load."""
        self._host(host).fails_next = True
        yield from ()

    def do_full(self, host: str) -> Iterator[str]:
        """A host's disk is full."""
        self._host(host).disk.is_full = True
        yield from ()

    def do_room(self, host: str) -> Iterator[str]:
        """It is not any more."""
        self._host(host).disk.is_full = False
        yield from ()

    def do_stage_dies(self, host: str) -> Iterator[str]:
        """The engine of the first stage that a host holds ends."""
        keeper = self._host(host).keeper
        keeper.die(next(iter(keeper.stages)))
        yield from ()

    # What is seen

    def do_leaders(self) -> Iterator[str]:
        """Whom each host obeys."""
        for number, host in enumerate(self.mesh_.hosts, 1):
            yield f"{number} {self._standing(host)}"

    def do_lists(self) -> Iterator[str]:
        """The instances as each host knows them; hosts that know the same share a line."""
        seen: dict[str, list[int]] = {}
        for number, host in enumerate(self.mesh_.hosts, 1):
            if host.is_awake:
                shown = "; ".join(_shown(one) for one in host.plane.instances) or "nothing"
                seen.setdefault(shown, []).append(number)
        for shown, numbers in seen.items():
            yield f"{' '.join(map(str, numbers))}: {shown}"

    def do_held(self) -> Iterator[str]:
        """The stages that each host really holds."""
        for number, host in enumerate(self.mesh_.hosts, 1):
            stages = [
                f"{one.assignment.instance.model} stage {one.assignment.stage} of {_epoch(one.assignment.instance)}"
                for one in host.keeper.stages.values()
            ]
            if not host.is_dead:
                yield f"{number} holds {', '.join(stages) or 'nothing'}"

    def do_obeyed(self) -> Iterator[str]:
        """The commands that were obeyed since the last time, in order."""
        lines = self.mesh_.ghost.obedience
        yield from lines[self._told :]
        self._told = len(lines)

    def do_agree(self) -> Iterator[str]:
        """Whether all members agree on everything, and nothing that was acknowledged is lost."""
        reason = self.mesh_.disagreement() or self.mesh_.ghost.lost_intents(self.mesh_.members())
        yield f"no: {reason}" if reason else "yes"

    def do_open(self) -> Iterator[str]:
        """Requests that are not answered yet."""
        yield f"{len(self.mesh_.ghost.asked)} open"

    def _standing(self, host: Host) -> str:
        election = host.plane.election
        if host.is_dead:
            return "is off"
        if not host.is_awake:
            return "sleeps"
        if election.leader is None:
            return "obeys nobody"
        ballot = _ballot(election.ballot)
        return (
            f"leads under {ballot}"
            if election.leader == host.id
            else f"obeys {_number(election.leader)} under {ballot}"
        )

    def _host(self, number: str) -> Host:
        return self.mesh_.host(int(number))

    def _ask(self, host: Host, request: LoadRequest | UnloadRequest, digest: str) -> None:
        host.ghost.asked[request.request_id] = (host.id, host.life, digest)
        host.control.ask(request)


def play(path: Path) -> str:
    """The text of a story, its commands done and their printout put in the place of the expected one."""
    teller = Teller()
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("> "):
            lines += [line, *teller.tell(line[2:])]
        elif line.startswith("#") or not line:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _model(letter: str) -> Any:
    return next(model for model in MODELS if model.digest[0] == letter)


def _number(node: str) -> int:
    return int(node, 16)


def _ballot(ballot: Ballot | None) -> str:
    return "none" if ballot is None else f"({ballot.counter}, {_number(ballot.node)})"


def _epoch(instance: Instance) -> str:
    epoch = instance.epoch
    return f"({epoch.counter}, {_number(epoch.node) if epoch.node else '-'}).{epoch.n}"


def _shown(instance: Instance) -> str:
    stages = " ".join(f"{_number(one.node)}[{one.first_layer}-{one.last_layer}]" for one in instance.stages)
    reason = f" ({instance.reason})" if instance.reason else ""
    return f"{instance.model} {instance.state.value} in {_epoch(instance)} on {stages or '-'}{reason}"
