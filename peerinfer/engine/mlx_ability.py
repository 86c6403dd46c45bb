"""Whether MLX can run stages on this machine, and which of the architectures that peerinfer knows. Asked in a child."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from peerinfer.errors import UnsupportedModel
from peerinfer.models.mlx_rules import MLX_RULES

ABSENT = "MLX is not installed here. Run `scripts/setup --extras mlx`; until then llama.cpp runs all layers."


@dataclass(frozen=True, slots=True)
class MlxAbility:
    """What MLX can do on one machine."""

    trouble: str = ""
    """Why it cannot run layers, as a sentence; empty if it can."""
    version: str = ""
    metal: bool = False
    """Whether it computes on the GPU of an Apple machine; elsewhere it is slow, and there for trials."""
    unable: tuple[str, ...] = ()
    """Architectures whose classes the installed `mlx_lm` has no more."""


def mlx_ability() -> MlxAbility:
    """Imports MLX and tries a made-up layer of each architecture."""
    try:
        import mlx.core as mx  # noqa: PLC0415 - not installed everywhere
        import mlx_lm.models.base  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name in ("mlx", "mlx.core", "mlx_lm")
        trouble = ABSENT if is_absent else f"MLX does not start here ({error}). llama.cpp runs all layers."
        return MlxAbility(trouble, unable=tuple(sorted(MLX_RULES)))
    unable, trouble = _unable()
    version = f"mlx {metadata.version('mlx')}, mlx-lm {metadata.version('mlx-lm')}"
    return MlxAbility(trouble, version, mx.metal.is_available(), tuple(unable))


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
