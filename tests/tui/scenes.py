"""Meshes as the terminal may meet them: each is a state that a daemon could tell, made by hand and without chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from peerinfer.control.state import (
    Ballot,
    ClusterLink,
    ClusterMember,
    ClusterState,
    Device,
    Epoch,
    Forecast,
    HeldStage,
    Instance,
    InstanceState,
    Liveness,
    ModelFile,
    Neighbour,
    NodeReport,
    Speed,
    StagePlace,
)

GB = 1_000_000_000
MESH = "5e" * 16
DESK, LAP, ATTIC, MAC, OLD = (letter * 32 for letter in "abcde")
INSTANCE = "1" * 32
DIGEST = "d" * 64
EPOCH = Epoch(12, DESK, 3)
QWEN = ModelFile("qwen3:4b", DIGEST, 2_500_000_000)


def cpu(name: str, use: float, celsius: float | None = None, watts: float | None = None) -> Device:
    return Device("cpu", name, cores=8, utilisation=use, temperature_c=celsius, power_w=watts)


def gpu(kind: str, name: str, used_gb: float, all_gb: float, *, use: float, celsius: float, watts: float) -> Device:
    free = int((all_gb - used_gb) * GB)
    return Device(kind, name, int(all_gb * GB), free, utilisation=use, temperature_c=celsius, power_w=watts)


def report(memory_gb: float, free_gb: float, *devices: Device, stages: tuple[HeldStage, ...] = ()) -> NodeReport:
    engines = ("llama.cpp",)
    return NodeReport("0.1.0", int(memory_gb * GB), int(free_gb * GB), devices, False, engines, (QWEN,), stages)


def held(number: int, compute: float, wire: float, tokens: int = 480, state: str = "ready") -> HeldStage:
    return HeldStage(INSTANCE, EPOCH, number, state, 1.0 if state == "ready" else 0.4, compute, wire, tokens)


def empty() -> ClusterState:
    """A daemon that has not even told of itself."""
    return ClusterState(DESK, MESH)


def one_node() -> ClusterState:
    own = ClusterMember(DESK, "desk", Liveness.ALIVE, report(32, 21, cpu("AMD Ryzen 7", 0.07, 48, 22)))
    nearby = (Neighbour("192.168.1.20:8643", True, 41875),)
    return ClusterState(DESK, MESH, DESK, Ballot(1, DESK), members=(own,), neighbours=nearby)


def five_nodes() -> ClusterState:
    """Five unlike machines, four of which run a model."""
    desk = report(
        64,
        40,
        cpu("AMD Ryzen 9", 0.21, 61, 74),
        gpu("cuda", "RTX 4090", 14.2, 24, use=0.87, celsius=71, watts=288),
        stages=(held(0, 3.1, 0.42),),
    )
    lap = replace(
        report(16, 6.2, cpu("Intel i5", 0.64, 78, 24), stages=(held(1, 6.3, 0.51),)),
        on_battery=True,
        battery_percent=54.0,
        user_active=True,
    )
    mac = replace(report(36, 20, Device("metal", "Apple M3 Pro", utilisation=0.55), stages=(held(2, 4.4, 2.6),)))
    mac = replace(mac, engines=("mlx", "llama.cpp"), battery_percent=97.0)
    old = report(8, 3.9, cpu("Intel Celeron", 0.93, 88), stages=(held(3, 5.2, 0.9),))
    attic = report(16, 13, cpu("Intel N100", 0.02, 39, 6))
    members = (
        ClusterMember(DESK, "desk", Liveness.ALIVE, desk),
        ClusterMember(LAP, "kitchen-laptop", Liveness.ALIVE, lap),
        ClusterMember(ATTIC, "attic", Liveness.ALIVE, attic),
        ClusterMember(MAC, "Anna's MacBook Pro", Liveness.ALIVE, mac),
        ClusterMember(OLD, "bedroom-pc", Liveness.ALIVE, old),
    )
    pairs = [
        (DESK, LAP, 410.0, 118e6),
        (DESK, ATTIC, 380.0, 119e6),
        (DESK, MAC, 2600.0, 31e6),
        (DESK, OLD, 900.0, 11.2e6),
    ]
    pairs += [(LAP, MAC, 3100.0, 28e6), (MAC, OLD, 2900.0, 10.4e6), (LAP, ATTIC, 500.0, 117e6)]
    links = tuple(ClusterLink(a, b, rtt, rate) for a, b, rtt, rate in sorted(pairs))
    stages = (
        StagePlace(DESK, "llama.cpp", 0, 18),
        StagePlace(LAP, "llama.cpp", 18, 24),
        StagePlace(MAC, "mlx", 24, 32),
        StagePlace(OLD, "llama.cpp", 32, 36),
    )
    forecast = Forecast(44.0, 610.0, "kitchen-laptop: 6.3 of 22.7 ms per token", "cp-sat", is_optimal=True)
    instance = Instance(INSTANCE, "qwen3:4b", DIGEST, EPOCH, InstanceState.READY, stages, 4096, 4, forecast=forecast)
    speeds = (Speed(INSTANCE, 41.7, 640.0, EPOCH),)
    return ClusterState(DESK, MESH, LAP, Ballot(12, LAP), members, links=links, instances=(instance,), speeds=speeds)


def node_lost() -> ClusterState:
    """The slowest machine of the ring does not answer, another is gone."""
    whole = five_nodes()
    states = {OLD: Liveness.UNREACHABLE, ATTIC: Liveness.GONE}
    members = tuple(replace(one, state=states.get(one.id, one.state)) for one in whole.members)
    links = tuple(link for link in whole.links if not {OLD, ATTIC} & set(link.ends))
    return replace(whole, members=members, links=links)


def no_leader() -> ClusterState:
    return replace(five_nodes(), leader=None, ballot=None)


def loading() -> ClusterState:
    whole = five_nodes()
    instance = replace(whole.instances[0], state=InstanceState.LOADING)
    members: list[ClusterMember] = []
    for one in whole.members:
        stages = one.report.stages if one.report else ()
        still = tuple(
            replace(each, state="loading", progress=0.2 + 0.2 * each.stage, ms_per_token=0.0) for each in stages
        )
        members.append(replace(one, report=replace(one.report, stages=still) if one.report else None))
    return replace(whole, instances=(instance,), members=tuple(members), speeds=())


def failed() -> ClusterState:
    """A model that no longer fits anywhere."""
    whole = five_nodes()
    reason = "llama3.3:70b needs 18.4 GB more than the nodes have together. Unload a model, or take a smaller one."
    instance = Instance("2" * 32, "llama3.3:70b", "e" * 64, EPOCH, InstanceState.FAILED, (), 4096, 4, reason)
    members = tuple(
        replace(one, report=replace(one.report, stages=()) if one.report else None) for one in whole.members
    )
    return replace(whole, instances=(instance,), members=members, speeds=())


SCENES: Mapping[str, Callable[[], ClusterState]] = {
    "empty": empty,
    "one_node": one_node,
    "five_nodes": five_nodes,
    "node_lost": node_lost,
    "no_leader": no_leader,
    "loading": loading,
    "failed": failed,
}
