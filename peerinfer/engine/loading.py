"""Loads a stage with the engine that its spec names; MLX's is held to llama.cpp before it is served."""

from __future__ import annotations

from pathlib import Path

from peerinfer.engine.base import Progress, StageEngine, StageSpec
from peerinfer.engine.kinds import LLAMA, MLX
from peerinfer.engine.llama import LlamaStage
from peerinfer.engine.mlx_ability import mlx_ability
from peerinfer.errors import UnsupportedModel

CHECK_SHARE = 0.9
"""Of the loading that is done when the check begins."""
MILLIONTHS = 1e6


def load(spec: StageSpec, progress: Progress) -> tuple[StageEngine, dict[str, int]]:
    """The stage, and facts of it: `kv_bytes`, whether rows are batched and, for MLX, in millionths what was lost in
    converting weights, how far it is from llama.cpp and whether that was known from a record.

    Raises `UnsupportedModel` or `EngineError`.
    """
    if spec.engine == LLAMA:
        stage = LlamaStage(spec, progress)
        return stage, {"kv_bytes": stage.kv_bytes, "batch_rows": int(stage.batch_rows)}
    if spec.engine != MLX:
        raise UnsupportedModel(f"There is no engine {spec.engine[:32]!r} here. Update peerinfer on this machine.")
    return _load_mlx(spec, progress)


def _load_mlx(spec: StageSpec, progress: Progress) -> tuple[StageEngine, dict[str, int]]:
    ability = mlx_ability()
    if ability.trouble:
        raise UnsupportedModel(ability.trouble)
    from peerinfer.engine.mlx import MlxStage  # noqa: PLC0415 - not installed everywhere
    from peerinfer.engine.parity import VERSION, check_parity  # noqa: PLC0415

    stage = MlxStage(spec, lambda share: progress(share * CHECK_SHARE))
    try:
        record = Path(spec.record_path) if spec.record_path else None
        parity = check_parity(stage, record, f"{ability.version}, probe {VERSION}")
    except BaseException:
        stage.close()
        raise
    return stage, {
        "kv_bytes": stage.kv_bytes,
        "batch_rows": int(stage.batch_rows),
        "loss_millionths": round(stage.conversion_loss * MILLIONTHS),
        "parity_millionths": round(parity.error * MILLIONTHS),
        "parity_recorded": int(parity.recorded),
    }
