"""Which engine runs a model's layers on a node, and what they take there. Pure."""

from __future__ import annotations

from peerinfer.engine.kinds import ENGINES, MLX
from peerinfer.gossip.snapshot import HeldModel, Snapshot


def engine_for(told: Snapshot, model: HeldModel) -> str:
    """The first of a node's engines, in the order in which it prefers them, that can run the model; empty if none."""
    return next((engine for engine in told.engines if _runs(engine, told, model)), "")


def _runs(engine: str, told: Snapshot, model: HeldModel) -> bool:
    if (engine, model.architecture) in told.unable:
        return False
    return engine != MLX or model.mlx_layer_bytes > 0


def why_no_engine(told: Snapshot) -> str:
    """Why no engine of a node can run a model. Completes "NAME …"."""
    troubled = [probe for probe, _ in told.troubles if probe in ENGINES]
    if troubled and not told.engines:
        return (
            f"may run layers in {' and '.join(troubled)} only, which does not run there (`peerinfer doctor` says why)"
        )
    if not told.engines:
        return "has no engine that runs models"
    return f"has {' and '.join(told.engines)} only, which cannot run this model (config engines)"


def why_no_longer(engine: str, told: Snapshot | None) -> str:
    """Why a stage in this engine should leave a node; empty if it need not. Completes "NAME …"."""
    if told is None or engine in told.engines:
        return ""
    return f"runs layers in {engine} no more (config engines)"


def kinds_for(engine: str, told: Snapshot) -> tuple[str, ...]:
    """Kinds of accelerators here that an engine computes with, the one to fill first first."""
    here = {device.kind for device in told.devices}
    return tuple(kind for kind in told.accelerators if kind in here and (engine != MLX or kind == "metal"))


def layer_bytes(model: HeldModel, engine: str) -> int:
    """What the heaviest layer takes in an engine."""
    return model.mlx_layer_bytes if engine == MLX and model.mlx_layer_bytes else model.layer_bytes


def head_bytes(model: HeldModel, engine: str) -> int:
    """What final norm and head take in an engine."""
    return model.mlx_head_bytes if engine == MLX and model.mlx_head_bytes else model.head_bytes
