"""Hosts of the drill: network namespaces on a bridge, which has a namespace of its own.

Nothing touches the network of the machine itself. Every namespace is called `pi-drill-…`; whatever runs in one was
started by a drill, so `sweep` may end it. Linux only, as root.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psutil

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.errors import PeerinferError
from peerinfer.identity.storage import Identity

T = TypeVar("T")
Condition = Callable[[JsonObject], bool]
"""Whether a daemon's state is as wanted."""

PREFIX = "pi-drill-"
BRIDGE_NETNS = f"{PREFIX}net"
BRIDGE = "br0"
FAR_BRIDGE = "br1"
"""The other half of a network that can be cut in two."""
NETWORK = "10.98.7"
USER_NAME = "drill-user-quokka"
"""In the environment of every daemon, so that the capture can be searched for it."""
TOOLS = {"ip": "iproute2", "unshare": "util-linux", "sh": "a shell"}
RUN_S = 120.0
END_S = 10.0
POLL_S = 0.05
CLONE_NEWNET = 0x40000000
AS_HOST = 'printf %s "$0" > /proc/sys/kernel/hostname && exec "$@"'
"""Gives a UTS namespace its host name, then becomes the command, which so keeps the process id."""


class DrillFailed(Exception):
    """A step did not do what it must; the text is a sentence."""


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """What a command prints. Raises `DrillFailed` with its last words if it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise DrillFailed(f"`{' '.join(command)}` had not ended after {RUN_S:.0f} s.") from None
    if done.returncode:
        raise DrillFailed(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def enter(netns: str) -> None:
    """Takes the calling thread into a namespace: sockets that it makes from now on belong there."""
    descriptor = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise DrillFailed(f"The namespace {netns} cannot be entered: {os.strerror(ctypes.get_errno())}.")
    finally:
        os.close(descriptor)


def sweep() -> None:
    """Ends what runs in our namespaces, removes them and the homes, those of a former drill that was killed too."""
    for netns in (name.split()[0] for name in run("ip", "netns", "list").splitlines() if name.startswith(PREFIX)):
        for pid in run("ip", "netns", "pids", netns).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "delete", netns)
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


class Host:
    """One machine of the drill."""

    def __init__(self, number: int, folder: Path, bridge: str = BRIDGE) -> None:
        self.node_name = f"marmalade-{number}"
        self.host_name = f"wombat-host-{number}"
        self.address = f"{NETWORK}.{number}"
        self.home = folder / f"home-{number}"
        self.log = folder / f"{number}.log"
        self.netns = f"{PREFIX}{number}"
        self.threads = 1
        """That each of its stages computes with."""
        self.process: subprocess.Popen[bytes] | None = None
        self._env = {**os.environ, "USER": USER_NAME, "LOGNAME": USER_NAME, "PYTHONPYCACHEPREFIX": str(folder / "pyc")}
        self._env.pop("PYTHONDONTWRITEBYTECODE", None)  # a person's second start finds its bytecode compiled
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "add", "eth0", "type", "veth", "peer", self._port, "netns", BRIDGE_NETNS)
        run("ip", "-n", self.netns, "address", "add", f"{self.address}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            run("ip", "-n", self.netns, "link", "set", interface, "up")
        run("ip", "-n", self.netns, "route", "add", "224.0.0.0/4", "dev", "eth0")
        run("ip", "-n", BRIDGE_NETNS, "link", "set", self._port, "master", bridge)
        self.plug(True)
        self._threads = ThreadPoolExecutor(2, f"{self.netns}", enter, (self.netns,))

    @property
    def _port(self) -> str:
        return f"port{self.address.rpartition('.')[2]}"

    def plug(self, there: bool) -> None:
        """Puts the cable in, or pulls it out: the far end goes down, so the host sees its carrier go."""
        run("ip", "-n", BRIDGE_NETNS, "link", "set", self._port, "up" if there else "down")

    def inside(self, *command: str) -> list[str]:
        """`command` as one to be run on this host."""
        return ["ip", "netns", "exec", self.netns, "unshare", "--uts", "sh", "-c", AS_HOST, self.host_name, *command]

    def peerinfer(self, *words: str) -> str:
        """What a verb prints that is typed on this host."""
        peerinfer = (sys.executable, "-P", "-m", "peerinfer", *words, "--home", str(self.home))
        return run(*self.inside(*peerinfer), env=self._env)

    def start(self) -> float:
        """Starts its daemon; returns when, in monotonic seconds."""
        up = (sys.executable, "-P", "-m", "peerinfer", "up", "--headless", "--threads", str(self.threads))
        with self.log.open("ab") as log:
            started = time.monotonic()
            self.process = subprocess.Popen(
                self.inside(*up, "--name", self.node_name, "--home", str(self.home)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        return started

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Does `work` on a thread of this host."""
        return self._threads.submit(work)

    def ask(self, question: Callable[[ApiClient], Awaitable[T]], timeout_s: float) -> Future[T]:
        """Asks its daemon by the API. The future raises what the daemon raised, or `TimeoutError`."""

        async def asking() -> T:
            async with asyncio.timeout(timeout_s), ApiClient(self.home) as client:
                return await question(client)

        return self.do(lambda: asyncio.run(asking()))

    def watch(self, timeout_s: float, *conditions: Condition) -> Future[list[float]]:
        """When its daemon's state met each condition, one after the other, in monotonic seconds."""
        return self.do(lambda: asyncio.run(asyncio.wait_for(_times(self.home, conditions), timeout_s)))

    def certificate(self) -> tuple[Path, Path]:
        """Its certificate as a member, and its key."""
        files = Identity.open(self.home).tls_files
        return files.certificate, files.key

    def cpu_s(self) -> float:
        """Processor time that its daemon has taken: what a start costs, however busy this machine is."""
        return sum(psutil.Process(self.process.pid).cpu_times()[:2]) if self.process else 0.0

    def engines(self) -> list[psutil.Process]:
        """The child processes of its daemon."""
        return psutil.Process(self.process.pid).children(recursive=True) if self.process else []

    def kill(self) -> float:
        """Ends its daemon as a power cut would; returns when."""
        process, self.process = self.process, None
        if process is None:
            raise DrillFailed(f"The daemon of {self.node_name} had ended already.")
        process.kill()
        killed = time.monotonic()
        process.wait(END_S)
        return killed

    def end(self) -> None:
        """Ends its daemon, gently if it can be; also one that stands still."""
        process, self.process = self.process, None
        for send in (signal.SIGTERM, signal.SIGKILL):
            if process is not None and process.poll() is None:
                process.send_signal(send)
                process.send_signal(signal.SIGCONT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_S)

    def close(self) -> None:
        """Ends its daemon and its threads."""
        self.end()
        self._threads.shutdown(wait=False, cancel_futures=True)


class Lan:
    """A bridge, its hosts, and a folder for their homes. Leaving the `with` takes it all away."""

    def __init__(self, hosts: int, far: int = 0) -> None:
        """The last `far` hosts are on a bridge of their own, behind a cable that `join` pulls and puts in."""
        self._count = hosts
        self._far = far
        self.hosts: list[Host] = []

    def __enter__(self) -> list[Host]:
        sweep()
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            run("ip", "netns", "add", BRIDGE_NETNS)
            for bridge in (BRIDGE, FAR_BRIDGE):
                run("ip", "-n", BRIDGE_NETNS, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
                run("ip", "-n", BRIDGE_NETNS, "link", "set", bridge, "promisc", "on", "up")  # it hears every port
            run("ip", "-n", BRIDGE_NETNS, "link", "add", "near", "type", "veth", "peer", "name", "far")
            for end, bridge in (("near", BRIDGE), ("far", FAR_BRIDGE)):
                run("ip", "-n", BRIDGE_NETNS, "link", "set", end, "master", bridge, "up")
            for number in range(1, self._count + 1):
                bridge = BRIDGE if number <= self._count - self._far else FAR_BRIDGE
                self.hosts.append(Host(number, folder, bridge))
        except BaseException:
            self.__exit__()
            raise
        return self.hosts

    def join(self, whole: bool) -> None:
        """Puts the cable between the two halves in, or pulls it."""
        run("ip", "-n", BRIDGE_NETNS, "link", "set", "near", "up" if whole else "down")

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            with contextlib.suppress(Exception):
                host.close()
        sweep()


def keep_logs(hosts: Sequence[Host], folder: Path) -> None:
    """Copies the daemons' logs to `folder`, which outlives the network."""
    folder.mkdir(parents=True, exist_ok=True)
    for host in hosts:
        if host.log.exists():
            shutil.copy(host.log, folder)


@contextlib.contextmanager
def only_drill() -> Generator[bool]:
    """Whether this is the only drill on the machine, which it then is until the `with` ends."""
    import fcntl  # noqa: PLC0415  (exists on Unix only)

    with Path("/run/pi-drill.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def measured_alone(measure: Callable[[], T]) -> T | None:
    """What a measurement gives; None, with the reason on stderr, where it cannot be made here or now."""
    if why := missing():
        print(why, file=sys.stderr)
        return None
    with only_drill() as is_alone:
        if is_alone:
            return measure()
    print("A drill runs on this machine; try again when it has ended.", file=sys.stderr)
    return None


def missing() -> str:
    """Why this machine cannot run a drill; nothing if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "The drill makes network namespaces: run it on Linux, as root."
    return "".join(f"`{tool}` is missing: install {of}. " for tool, of in TOOLS.items() if shutil.which(tool) is None)


async def _times(home: Path, conditions: Sequence[Condition]) -> list[float]:
    times: list[float] = []
    while len(times) < len(conditions):
        with contextlib.suppress(PeerinferError):  # it has not started yet, or just stops
            async with ApiClient(home) as client:
                await _poll(client, conditions, times)
        await asyncio.sleep(POLL_S)
    return times


async def _poll(client: ApiClient, conditions: Sequence[Condition], times: list[float]) -> None:
    while len(times) < len(conditions):
        if conditions[len(times)](await client.state()):
            times.append(time.monotonic())
        else:
            await asyncio.sleep(POLL_S)
