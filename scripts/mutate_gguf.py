"""Tries hostile model files on the reader, and measures its longest time and its memory.

Four things are measured, in processes of their own on Linux or macOS:
  classes    each malformed class of `tests/models/hostile_*.py` with each seed: only the reader's own error may come
  large      the same for the classes of large files, which are read from disk
  heaviest   the heaviest headers that are taken (`tests/models/heaviest.py`), each read from disk by a new process
  mutations  headers of at most 4 KiB (`tests/models/mutated.py`), changed by chance and read in-process; of those that
             pass, the facts and the plans of shards are made as well: only errors of models may come

A time is what one file costs in the reader and, of a mutation, in facts and plans too: of the processor, and by the
clock on the wall, which on a busy machine says more of the others. A file that the wall clock sees for 20 s is a hang
and counts as another error. Memory is the greatest resident size of a process, with Python and numpy in it, and such
files as are not read from disk. The bars: no other error, no file over 1 s of the processor, no process over 256 MiB.
The exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.gguf import GgufHeader, parse_header, read_header
from tests.models import hostile_tensors, hostile_values
from tests.models.heaviest import HEAVIEST
from tests.models.hostile import MALFORMED
from tests.models.mutated import examine, mutated

BAR_S = 1.0
BAR_BYTES = 256 << 20
GIVE_UP_S = 20.0
"""A file that takes longer is a hang: it is broken off, so that the rest can be tried."""
CHUNK = 5_000
"""Mutations that one process tries before it tells what it found."""
FAULTS_TOLD = 20
MODULES = (hostile_values, hostile_tensors)


@dataclass(slots=True)
class Figures:
    """What came of some files."""

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    longest_s: float = 0.0
    """Of the processor."""
    longest: str = ""
    """The file that took it."""
    longest_wall_s: float = 0.0
    peak_bytes: int = 0
    faults: list[str] = field(default_factory=list[str])

    def add(self, other: Figures) -> None:
        """Takes the figures of other files in."""
        self.files += other.files
        self.outcomes += other.outcomes
        if other.longest_s > self.longest_s:
            self.longest_s, self.longest = other.longest_s, other.longest
        self.longest_wall_s = max(self.longest_wall_s, other.longest_wall_s)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.faults += other.faults

    def attempt(self, name: str, trial: Callable[[], str]) -> None:
        """Measures `trial`, which returns what came of the file called `name` and raises what should not come."""
        self.files += 1
        start_s, wall_start_s = time.process_time(), time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, GIVE_UP_S)
        try:
            self.outcomes[trial()] += 1
        except Exception as error:
            self.outcomes["fault"] += 1
            self.faults.append(f"{name}: {type(error).__name__}: {error}"[:300])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took_s = time.process_time() - start_s
        self.longest_wall_s = max(self.longest_wall_s, time.perf_counter() - wall_start_s)
        if took_s > self.longest_s:
            self.longest_s, self.longest = took_s, name

    def missed(self) -> list[str]:
        """The bars that these figures miss."""
        missed = [f"{len(self.faults)} faults"] if self.faults else []
        missed += [f"{self.longest_s:.2f} s for {self.longest}"] if self.longest_s > BAR_S else []
        return missed + ([f"{_mib(self.peak_bytes)} of memory"] if self.peak_bytes > BAR_BYTES else [])


def try_class(name: str, seeds: int) -> Figures:
    """All files of one malformed class."""
    figures = Figures()
    for seed in range(seeds):
        data = MALFORMED[name].make(Random(seed))
        figures.attempt(f"{name} {seed}", lambda data=data: _refused(lambda: parse_header(io.BytesIO(data), len(data))))
    figures.peak_bytes = _peak_bytes()
    return figures


def try_file(path: Path, right: bool) -> Figures:
    """One file on disk, which must be taken or refused."""
    figures = Figures()
    figures.attempt(path.name, lambda: _taken(path) if right else _refused(lambda: read_header(path)))
    figures.peak_bytes = _peak_bytes()
    return figures


def _taken(path: Path) -> str:
    read_header(path)
    return "accepted"


def _refused(read: Callable[[], GgufHeader]) -> str:
    try:
        read()
    except (CorruptModel, UnsupportedModel) as error:
        return type(error).__name__
    raise AssertionError("was taken")


def try_mutations(seed: int, indices: range) -> Figures:
    """The mutations `indices` of `seed`."""
    figures = Figures()
    for index in indices:
        data, claimed_bytes = mutated(seed, index)
        figures.attempt(f"mutated({seed}, {index})", lambda data=data, n=claimed_bytes: examine(data, n))
    figures.peak_bytes = _peak_bytes()
    return figures


def _peak_bytes() -> int:
    """Of this process since it runs this program; `getrusage` of Linux counts what was before the program too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 20):.0f} MiB"


def _prepare() -> None:
    """In each process: a file that takes too long raises."""

    def give_up(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"broken off after {GIVE_UP_S:.0f} s")

    signal.signal(signal.SIGALRM, give_up)


def _pool(processes: int, tasks: int | None) -> Pool:
    """Fresh processes, each renewed after `tasks` tasks; forked ones would start with the memory of this one."""
    return multiprocessing.get_context("spawn").Pool(processes, _prepare, maxtasksperchild=tasks)


def spread(processes: int, trial: Callable[..., Figures], cases: Iterable[tuple[object, ...]]) -> Figures:
    """The figures of all `cases`, which processes share."""
    total = Figures()
    with _pool(processes, 40) as pool:
        for waiting in [pool.apply_async(trial, case) for case in cases]:
            total.add(waiting.get())
    return total


def from_disk(files: Iterable[tuple[str, Callable[[], bytes]]], right: bool, tasks: int | None) -> Figures:
    """The figures of all `files`, which are written here and read elsewhere one by one."""
    total = Figures()
    with tempfile.TemporaryDirectory() as folder, _pool(1, tasks) as pool:
        for name, make in files:
            path = Path(folder) / name
            path.write_bytes(make())
            total.add(pool.apply(try_file, (path, right)))
            path.unlink()
    return total


def large_files(seeds: int) -> Iterable[tuple[str, Callable[[], bytes]]]:
    """The files of the malformed classes of large ones."""
    for name, malformed in MALFORMED.items():
        if malformed.large:
            for seed in range(seeds):
                yield f"{name} {seed}", lambda make=malformed.make, seed=seed: make(Random(seed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="mutations (default: a million)")
    parser.add_argument("--seeds", type=int, default=100, help="files of each malformed class (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation, to try one again")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser.parse_args()


def main() -> int:
    """Measures all four."""
    args = _options()
    last = args.first + args.count
    chunks = [(args.seed, range(at, min(at + CHUNK, last))) for at in range(args.first, last, CHUNK)]
    found: dict[str, Figures] = {}
    small = [(name, args.seeds) for name, malformed in MALFORMED.items() if not malformed.large]
    found["classes"] = spread(args.processes, try_class, small)
    found["large"] = from_disk(large_files(args.seeds), right=False, tasks=None)
    found["heaviest"] = from_disk(HEAVIEST.items(), right=True, tasks=1)
    found["mutations"] = spread(args.processes, try_mutations, chunks)
    if args.json:
        print(json.dumps({name: asdict(figures) for name, figures in found.items()}, indent=2))
    else:
        print(__doc__)
        print(f"{len(MALFORMED)} classes, {args.seeds} seeds; mutations {args.first} to {last - 1} of seed {args.seed}")
        for name, figures in found.items():
            print(_text(name, figures))
    return 1 if any(figures.missed() for figures in found.values()) else 0


def _text(name: str, figures: Figures) -> str:
    outcomes = ", ".join(f"{n} {what}" for what, n in figures.outcomes.most_common())
    lines = [
        f"\n{name}: {figures.files} files",
        f"  outcomes  {outcomes}",
        f"  longest   {figures.longest_s * 1000:.1f} ms of the processor, {figures.longest}",
        f"            {figures.longest_wall_s * 1000:.1f} ms on the wall",
        f"  memory    {_mib(figures.peak_bytes)}",
        f"  bars      {'; '.join(figures.missed()) or 'held'}",
        *(f"  fault     {fault}" for fault in figures.faults[:FAULTS_TOLD]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
