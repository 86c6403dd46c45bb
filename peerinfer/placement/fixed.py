"""Stages that a person fixed: checked against the model and the nodes, each fault a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from peerinfer.errors import BadRequest, NoPlacement
from peerinfer.placement.costs import placed, predict
from peerinfer.placement.plan import PlacedStage, Plan, in_words, stage_bytes
from peerinfer.placement.problem import Excluded, ModelNumbers, NodeNumbers, Problem

Wanted = tuple[str, int, int]
"""(node id or name, first layer, last layer); the range is half-open."""


def place_fixed(problem: Problem, wanted: Sequence[Wanted]) -> Plan:
    """The stages as wanted, in the order of their layers.

    Raises `BadRequest` if they are not one sound split of the model over known nodes, `NoPlacement` if a node they
    name cannot take part, or not hold so much, or does not reach the next one.
    """
    ordered = sorted(wanted, key=lambda stage: stage[1:])
    _check_ranges(problem.model, ordered)
    found = [_find(name, problem) for name, _, _ in ordered]
    twice = next((node.name for number, node in enumerate(found) if node in found[:number]), "")
    if twice:
        raise BadRequest(f"The node {twice} stands twice in the stages; give each node one range of layers.")
    ranges = [(start, end) for _, start, end in ordered]
    stages = tuple(_stage(problem, node, start, end) for node, (start, end) in zip(found, ranges, strict=True))
    _check_links(problem, found)
    return Plan(stages, predict(problem, stages), "fixed")


def _check_links(problem: Problem, found: Sequence[NodeNumbers]) -> None:
    """Each stage must reach the next one, and the last one the first."""
    wires = problem.wires()
    for node, following in zip(found, [*found[1:], found[0]], strict=True):
        if node is not following and (node.node, following.node) not in wires:
            raise NoPlacement(
                f"{node.name} has no link to {following.name}, to which it would send. Put them in another order."
            )


def _stage(problem: Problem, node: NodeNumbers, start: int, end: int) -> PlacedStage:
    stage = placed(problem, node.node, start, end)
    if stage is not None:
        return stage
    needed = stage_bytes(problem.model, problem.room, start, end) + node.stage_bytes
    short = max(0, needed - node.memory_bytes)
    if not short:
        raise NoPlacement(f"Layers {start}-{end} do not fit {node.name}: {_narrow(node, end - start)}")
    raise NoPlacement(
        f"Layers {start}-{end} need {in_words(needed)}, but {node.name} can give {in_words(node.memory_bytes)}: "
        f"{in_words(short)} are short. Give it fewer layers, or try a smaller --context."
    )


def _narrow(node: NodeNumbers, layers: int) -> str:
    """Why layers do not fit a node that has enough memory for them."""
    if node.layers_max is not None and layers > node.layers_max:
        return f"its disk has room for {node.layers_max}. Give it fewer."
    if node.table_us and layers >= len(node.table_us):
        return f"its speed is told for at most {len(node.table_us) - 1}. Give it fewer."
    return "none of its devices has room for the head, or they leave a rest each. Give it fewer."


def _check_ranges(model: ModelNumbers, ordered: list[Wanted]) -> None:
    cuts = model.cuts()
    at = 0
    for name, start, end in ordered:
        written = f"{name}:{start}-{end}"
        if not 0 <= start < end <= model.layers:
            raise BadRequest(
                f"The stage {written} is outside the model, which has layers 0-{model.layers} (the end not included)."
            )
        if start > at:
            raise BadRequest(f"The stages leave a hole: nobody holds layers {at}-{start}. Close it.")
        if start < at:
            raise BadRequest(f"The stages overlap: layers {start}-{min(at, end)} stand twice. Give each layer to one.")
        if end not in cuts:
            raise BadRequest(f"This model cannot be cut at layer {end}. {_legal(cuts)}")
        at = end
    if at < model.layers:
        raise BadRequest(f"The stages leave a hole: nobody holds layers {at}-{model.layers}. Close it.")


def _legal(cuts: tuple[int, ...]) -> str:
    inner = [str(cut) for cut in cuts[1:-1]]
    if not inner:
        return "It runs whole on one node only."
    shown = ", ".join(inner[:16])
    return f"It can be cut at {shown}{' and further layers' if len(inner) > 16 else ''}."


def _find(wanted: str, problem: Problem) -> NodeNumbers:
    """The node with this id, or else the only one with this name."""
    everybody = (*problem.nodes, *problem.excluded)
    matches = [node for node in everybody if node.node == wanted] or [node for node in everybody if node.name == wanted]
    if not matches:
        known = ", ".join(sorted(node.name for node in everybody)) or "none"
        raise BadRequest(f"There is no node {wanted} in this mesh. Nodes: {known}.")
    if len(matches) > 1:
        raise BadRequest(f"{len(matches)} nodes are called {wanted}; name them by their ids, as `status` shows them.")
    match = matches[0]
    if isinstance(match, Excluded):
        raise NoPlacement(f"{match.name} cannot hold the stage that was given to it: it {match.reason}.")
    return match
