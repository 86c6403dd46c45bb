"""One tiny model, or more, of each architecture that may be cut."""

from __future__ import annotations

from tests.tiny_dense import DENSE
from tests.tiny_experts import MIXTURES

MODELS = {**DENSE, **MIXTURES}
"""By the name of what each proves."""
