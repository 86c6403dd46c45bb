"""Calibration on disk: one small file of JSON in the home. A damaged or foreign one is set aside and measured anew."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any, Final, cast

from peerinfer.telemetry.calibration import ENTRIES_MAX, Figure, Kind

VERSION: Final = 1
FILE_MAX_BYTES: Final = 1 << 20
"""64 entries are 20 kB."""
WHOLE: Final = ("threads", "size")
WHOLE_MAX: Final = 1_000_000
"""Of those numbers in the name of a kind."""

log = logging.getLogger(__name__)


class CalibrationFile:
    """Reads and writes the figures. Trouble with the disk costs the figures, never a load."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[Figure, ...]:
        """What was measured before; nothing where there is no file, or none that can be read."""
        try:
            if self._path.stat().st_size > FILE_MAX_BYTES:
                raise ValueError("it is too large")
            return _figures(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("%s cannot be used (%s); it is set aside, and this machine measured anew.", self._path, error)
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_suffix(".damaged"))
            return ()

    def save(self, figures: tuple[Figure, ...]) -> None:
        """Writes the figures beside the old file and renames."""
        body = {"version": VERSION, "figures": [dataclasses.asdict(figure) for figure in figures[:ENTRIES_MAX]]}
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(body, indent=1), encoding="utf-8")
            os.replace(partial, self._path)
        except OSError as error:
            log.warning("%s cannot be written (%s); its figures are measured again next time.", self._path, error)
            partial.unlink(missing_ok=True)


def _figures(raw: object) -> tuple[Figure, ...]:
    """Raises `ValueError`, `TypeError` or `KeyError` for what is no such file."""
    body = cast("dict[str, Any]", raw)
    if body["version"] != VERSION:
        raise ValueError(f"it has version {body['version']!r}")
    rows: list[dict[str, Any]] = list(body["figures"])[:ENTRIES_MAX]
    return tuple(_figure(row) for row in rows)


def _figure(row: dict[str, Any]) -> Figure:
    names: dict[str, Any] = row["kind"]
    values = {name: value for name, value in row.items() if name != "kind"}
    if not all(type(value) is (int if name in WHOLE else str) for name, value in names.items()):
        raise ValueError("it names a kind of model that cannot be")
    if not all(0 <= names.get(name, 0) <= WHOLE_MAX for name in WHOLE):
        raise ValueError("it counts what cannot be")
    if not all(type(value) in (int, float) for value in values.values()) or type(values["samples"]) is not int:
        raise ValueError("it has a figure that is no number")
    return Figure(Kind(**names), **values)
