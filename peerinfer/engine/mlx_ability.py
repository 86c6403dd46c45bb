"""Whether MLX can run stages on this machine, and which of the architectures that peerinfer knows. Asked in a child."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from peerinfer.errors import UnsupportedModel
from peerinfer.models.mlx_rules import MLX_RULES

ABSENT = "MLX is not installed here. Run `scripts/setup --extras mlx`; until then llama.cpp runs all layers."


def mlx_ability() -> dict[str, Any]:
    """`trouble` (empty if MLX works), `version`, whether it computes on `metal`, and the architectures it is `unable`
    to run because the installed `mlx_lm` has their classes no more.
    """
    try:
        import mlx.core as mx  # noqa: PLC0415 - not installed everywhere
        import mlx_lm.models.base  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name in ("mlx", "mlx.core", "mlx_lm")
        trouble = ABSENT if is_absent else f"MLX does not start here ({error}). llama.cpp runs all layers."
        return {"trouble": trouble, "version": "", "metal": False, "unable": sorted(MLX_RULES)}
    unable, trouble = _unable()
    version = f"mlx {metadata.version('mlx')}, mlx-lm {metadata.version('mlx-lm')}"
    return {"trouble": trouble, "version": version, "metal": mx.metal.is_available(), "unable": unable}


def _unable() -> tuple[list[str], str]:
    """Architectures that fail a trial on a made-up layer, and why the first of them does, if all do."""
    from peerinfer.engine.mlx_families import try_family  # noqa: PLC0415 - imports MLX

    reasons: dict[str, str] = {}
    for name in sorted(MLX_RULES):
        try:
            try_family(name)
        except UnsupportedModel as error:
            reasons[name] = str(error)
    return list(reasons), next(iter(reasons.values())) if len(reasons) == len(MLX_RULES) else ""
