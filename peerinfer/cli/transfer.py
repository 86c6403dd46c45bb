"""A file on its way, on stderr: a bar with rate and time left on a terminal, one line elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from peerinfer.cli.show import note, size

RATE_WINDOW_S = 10.0
"""The rate is that of the last seconds: steady enough to read, quick enough to tell a line that got slow."""
SAMPLES_MAX = 200
BAR_CHARS = 20
NAME_MAX_CHARS = 40


class TransferLine:
    """Shows the progress of one transfer, of one or several files."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._live = sys.stderr.isatty()
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)
        self._shown = ""
        self._told = False

    def show(self, name: str, done_bytes: int, total_bytes: int) -> None:
        """`done_bytes` of `total_bytes` are here; `name` is what is fetched now. A total of 0 is not known."""
        if not self._live:
            if not self._told:
                note(f"Fetching {name}{f' ({size(total_bytes)})' if total_bytes else ''}.")
            self._told = True
            return
        self._samples.append((self._now(), done_bytes))
        line = transfer_text(name, done_bytes, total_bytes, self._rate())[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line.ljust(len(self._shown))}", end="", file=sys.stderr, flush=True)
        self._shown = line

    def _rate(self) -> float:
        """Bytes per second over the last seconds; 0 while it is not known."""
        while len(self._samples) > 2 and self._samples[-1][0] - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return max(0.0, (after - before) / (ended - began)) if ended > began else 0.0

    def __enter__(self) -> TransferLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and self._shown:
            print(file=sys.stderr, flush=True)


def transfer_text(name: str, done_bytes: int, total_bytes: int, rate_bytes_per_s: float) -> str:
    """`model.gguf [#####-----]  50%  1.0 GB of 2.0 GB  50 MB/s  20 s left`, as far as it is known."""
    shown = name if len(name) <= NAME_MAX_CHARS else f"…{name[1 - NAME_MAX_CHARS :]}"
    if not total_bytes:
        return f"{shown}  {size(done_bytes)}"
    share = min(1.0, done_bytes / total_bytes)
    full = int(share * BAR_CHARS)
    parts = [
        f"{shown} [{'#' * full}{'-' * (BAR_CHARS - full)}]",
        f"{share:4.0%}",
        f"{size(done_bytes)} of {size(total_bytes)}",
    ]
    if rate_bytes_per_s > 0:
        parts.append(f"{size(rate_bytes_per_s)}/s")
        if done_bytes < total_bytes:
            parts.append(f"{_duration((total_bytes - done_bytes) / rate_bytes_per_s)} left")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
