"""The probes, with the machines that they would meet."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peerinfer.telemetry.facts import DeviceFacts, Reading
from peerinfer.telemetry.probes import battery as battery_room
from peerinfer.telemetry.probes import memory as memory_room
from peerinfer.telemetry.probes.amd import AmdProbe
from peerinfer.telemetry.probes.battery import supplies
from peerinfer.telemetry.probes.commands import output_of
from peerinfer.telemetry.probes.heat import STEADY, HeatProbe, apple_level, sensor_level
from peerinfer.telemetry.probes.intel import IntelProbe
from peerinfer.telemetry.probes.lid import LidProbe, clamshell
from peerinfer.telemetry.probes.memory import cgroup_limits
from peerinfer.telemetry.probes.nvidia import NvidiaProbe
from peerinfer.telemetry.probes.processor import ProcessorProbe, busy_share
from peerinfer.telemetry.probes.sensors import Sensor, sensors
from peerinfer.telemetry.probes.user import UserProbe, hid_idle_s, hinted_active, terminals_idle_s


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text(text)
    return path


def test_a_cgroup_limit_counts_without_the_cache_that_can_be_dropped(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    stat = "anon 5\ninactive_file 30\nactive_file 9\n"
    group(root / "a" / "b", memory__max="100\n", memory__current="70\n", memory__stat=stat)
    assert cgroup_limits(own(tmp_path, "0::/a/b\n"), root) == [(100, 60)]


def test_every_group_up_to_the_root_may_limit(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "a", memory__max="500", memory__current="450")
    group(root / "a" / "b", memory__max="max", memory__current="10")
    assert cgroup_limits(own(tmp_path, "0::/a/b\n"), root) == [(500, 50)]


def test_inside_a_container_the_root_is_the_group(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root, memory__max="64", memory__current="80")
    assert cgroup_limits(own(tmp_path, "0::/../..\n"), root) == [(64, 0)]


def test_the_older_layout_is_read_too(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    group(root / "memory" / "x", memory__limit_in_bytes="100", memory__usage_in_bytes="40")
    group(root / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="40")
    text = "11:cpu,cpuacct:/x\n9:memory:/x\n0::/x\n"
    assert cgroup_limits(own(tmp_path, text), root) == [(100, 60)]


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path / "absent", tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("sensor", "expected"),
    [
        (lambda: None, False),
        (lambda: SimpleNamespace(power_plugged=True, percent=80), False),
        (lambda: SimpleNamespace(power_plugged=False, percent=80.5), True),
        (lambda: SimpleNamespace(power_plugged=None, percent=None), None),
        (None, None),
    ],
)
def test_battery(monkeypatch: pytest.MonkeyPatch, sensor: Any, expected: bool | None) -> None:
    fake = SimpleNamespace(sensors_battery=sensor) if sensor else SimpleNamespace()
    monkeypatch.setattr(battery_room, "_psutil", fake)
    assert battery_room.sensors().on_battery is expected


MOUSE = {"type": "Battery", "scope": "Device", "status": "Discharging", "capacity": "55"}
DRAINED = {"type": "Battery", "status": "Discharging", "capacity": "40"}
KEPT = {"type": "Battery", "status": "Not charging", "capacity": "80"}
SOCKET, NO_SOCKET = ({"type": "Mains", "online": online} for online in "10")
USB, NO_USB = ({"type": "USB", "online": online} for online in "10")


@pytest.mark.parametrize(
    ("shown", "on_battery", "percent"),
    [
        ((), False, None),
        ((MOUSE,), False, None),
        ((MOUSE, SOCKET), False, None),
        ((DRAINED, NO_SOCKET), True, 40.0),
        ((DRAINED, MOUSE), True, 40.0),
        ((DRAINED, NO_SOCKET, USB), False, 40.0),
        ((DRAINED, KEPT, NO_SOCKET), True, 60.0),
        ((KEPT, SOCKET), False, 80.0),
        ((KEPT, NO_USB), False, 80.0),
        ((KEPT, NO_SOCKET), True, 80.0),
        (({**KEPT, "present": "0"},), False, None),
        (({"type": "Battery", "status": "Unknown"},), None, None),
    ],
)
def test_power_is_told_by_the_machines_own_batteries(
    tmp_path: Path, shown: tuple[dict[str, str], ...], on_battery: bool | None, percent: float | None
) -> None:
    for number, supply in enumerate(shown):
        (tmp_path / str(number)).mkdir()
        for name, text in supply.items():
            (tmp_path / str(number) / name).write_text(text + "\n")
    assert supplies(tmp_path) == Reading(on_battery=on_battery, battery_percent=percent)
    assert supplies(tmp_path / "nothing") == Reading(on_battery=False)


@pytest.mark.parametrize("error", [RuntimeError("performance counters may be disabled"), OSError("not permitted")])
def test_swap_that_cannot_be_told_costs_the_memory_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse() -> None:
        raise error

    fake = SimpleNamespace(virtual_memory=memory_room._psutil.virtual_memory, swap_memory=refuse)
    monkeypatch.setattr(memory_room, "_psutil", fake)
    reading = memory_room.MemoryProbe().read()
    assert (reading.memory_bytes or 0) > 0
    assert reading.swap_used_bytes is None


def test_a_processors_share_is_of_the_time_between_two_readings_whichever_thread_reads() -> None:
    assert busy_share((10.0, 100.0), (16.0, 108.0)) == 0.75
    assert busy_share((10.0, 100.0), (10.0, 100.0)) is None
    assert busy_share((10.0, 100.0), (9.9, 101.0)) == 0.0, "counters that went back a little"
    probe = ProcessorProbe()
    since = probe._times
    with ThreadPoolExecutor(1) as other:
        (device,) = other.submit(probe.read).result().devices
    assert device.utilisation == busy_share(since, probe._times)


def test_without_the_nvidia_module_there_is_no_gpu_and_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert NvidiaProbe().read().devices == ()


def card(root: Path, name: str, **files: str) -> Path:
    """A graphics card as the kernel shows it; `__` in a name stands for a folder."""
    for file, text in files.items():
        path = root / name / "device" / file.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root / name


def test_amd_cards_are_read_from_what_their_driver_shows(tmp_path: Path) -> None:
    root = tmp_path / "drm"
    card(
        root,
        "card0",
        vendor="0x1002",
        device="0x744c",
        product_name="Radeon RX 7900 XTX",
        mem_info_vram_total="25753026560",
        mem_info_vram_used="753026560",
        gpu_busy_percent="37",
        hwmon__hwmon3__temp1_input="54000",
        hwmon__hwmon3__power1_average="120000000",
        hwmon__hwmon3__freq1_input="2304000000",
    )
    card(root, "card1", vendor="0x1002", device="0x1638", gpu_busy_percent="not a number")
    card(root, "card2", vendor="0x10de", device="0x2684")
    (root / "card0-DP-1").mkdir()
    (tmp_path / "version").write_text("6.10.5\n")
    devices = AmdProbe(root, tmp_path / "version", tmp_path / "absent").read().devices
    assert devices == (
        DeviceFacts(
            "rocm", "Radeon RX 7900 XTX", 25753026560, 25 * 10**9, 0, 0.37, 54.0, 120.0, 2304.0, driver="6.10.5"
        ),
        DeviceFacts("rocm", "AMD graphics 0x1638", driver="6.10.5"),
    )
    assert AmdProbe(tmp_path / "nothing").read().devices == ()


def test_a_card_that_sleeps_is_not_woken(tmp_path: Path) -> None:
    for name, vendor in (("card0", "0x1002"), ("card1", "0x8086")):
        card(
            tmp_path,
            name,
            vendor=vendor,
            power__runtime_status="suspended",
            mem_info_vram_total="8000000000",
            gpu_busy_percent="3",
            hwmon__hwmon3__temp1_input="54000",
        )
    for probe in (AmdProbe(tmp_path), IntelProbe(tmp_path)):
        (device,) = probe.read().devices
        assert (device.utilisation, device.temperature_c) == (None, None)
    assert AmdProbe(tmp_path).read().devices[0].memory_free_bytes == 8 * 10**9


def test_intel_graphics_are_read_from_what_their_driver_shows(tmp_path: Path) -> None:
    shown = card(tmp_path, "card0", vendor="0x8086", device="0x46a6", hwmon__hwmon1__temp1_input="41000")
    (shown / "gt_act_freq_mhz").write_text("1300\n")
    (device,) = IntelProbe(tmp_path).read().devices
    assert (device.kind, device.name, device.memory_bytes) == ("intel", "Intel graphics 0x46a6", 0)
    assert (device.temperature_c, device.clock_mhz, device.utilisation) == (41.0, 1300.0, None)
    (shown / "lmem_total_bytes").write_text("17179869184\n")
    assert IntelProbe(tmp_path).read().devices[0].memory_bytes == 16 * 2**30
    card(tmp_path, "card0", tile0__physical_vram_size_bytes="0x2fa000000")
    assert IntelProbe(tmp_path).read().devices[0].memory_bytes == 0x2FA000000


@pytest.mark.parametrize(
    ("states", "closed"),
    [({}, None), ({"LID": "open"}, False), ({"LID0": "closed"}, True), ({"LID0": "rubbish"}, None)],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS asks its registry")
def test_the_lid(tmp_path: Path, states: dict[str, str], closed: bool | None) -> None:
    for name, state in states.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "state").write_text(f"state:      {state}\n")
    assert LidProbe(tmp_path).read().lid_closed is closed


def test_what_macos_prints_is_understood() -> None:
    assert clamshell('  |   "AppleClamshellState" = Yes\n  | "Other" = No') is True
    assert clamshell('    "AppleClamshellState" = No') is False
    assert clamshell("") is None
    assert hid_idle_s('    | |   "HIDIdleTime" = 2500000000\n') == 2.5
    assert hid_idle_s("nothing") is None
    assert apple_level("com.apple.system.thermalpressurelevel 2\n") == "serious"
    assert apple_level("com.apple.system.thermalpressurelevel 4") == "critical"
    assert apple_level("Failed") == ""


def test_somebody_at_a_terminal_or_desktop_is_at_work(tmp_path: Path) -> None:
    desktop = {"Type": "wayland", "State": "active", "IdleHint": "no", "IdleSinceHint": "1600000000000000"}
    assert hinted_active(desktop) is True
    assert hinted_active({**desktop, "IdleHint": "yes"}) is False
    assert hinted_active({**desktop, "IdleSinceHint": "0"}) is None, "a desktop that keeps no hint"
    assert hinted_active({**desktop, "State": "online"}) is None, "somebody else sits there"
    assert hinted_active({**desktop, "Type": "tty"}) is None
    assert hinted_active({}) is None
    terminals = [tmp_path / "tty1", tmp_path / "tty2", tmp_path / "absent"]
    for path, touched in zip(terminals, (1000.0, 1500.0), strict=False):
        path.write_text("")
        os.utime(path, (touched, touched))
    assert terminals_idle_s(terminals, 1560.0) == 60.0
    assert terminals_idle_s(terminals, 1400.0) == 0.0, "a clock that was set back"
    assert terminals_idle_s([], 1560.0) is None


def sensor(current: float, high: float | None, critical: float | None) -> Sensor:
    return Sensor("coretemp", current, high, critical)


def test_heat_is_told_by_the_sensors_own_marks() -> None:
    assert sensor_level([]) == ""
    assert sensor_level([sensor(50, None, None)]) == ""
    assert sensor_level([sensor(50, 90, 100), sensor(83, 90, 95)]) == "fair"
    assert sensor_level([sensor(92, 90, 100)]) == "serious"
    assert sensor_level([sensor(101, 90, 100)]) == "critical"
    assert sensor_level([sensor(30, 1, 2), sensor(0, 90, 100), sensor(27.8, None, 20.8)]) == "", "marks that cannot be"
    assert sensor_level([sensor(75, 70, None)]) == "serious", "no word of what is critical"
    assert sensor_level([sensor(85, 0, 85)]) == "critical"


def test_sensors_are_read_but_for_those_of_a_device_that_sleeps(tmp_path: Path) -> None:
    for part, name in (("hwmon0", "k10temp"), ("hwmon1", "amdgpu"), ("hwmon2", "nvme")):
        (tmp_path / part / "device" / "power").mkdir(parents=True)
        (tmp_path / part / "name").write_text(name + "\n")
        (tmp_path / part / "temp1_input").write_text("51250\n")
    (tmp_path / "hwmon1" / "device" / "power" / "runtime_status").write_text("suspended\n")
    (tmp_path / "hwmon2" / "temp1_input").write_text("rubbish\n")
    (tmp_path / "hwmon0" / "temp1_crit").write_text("95000\n")
    assert sensors(tmp_path) == (Sensor("k10temp", 51.25, None, 95.0),)
    assert sensors(tmp_path / "nothing") == ()


def test_a_burst_of_work_is_no_heat() -> None:
    probe = HeatProbe()
    assert [probe._steady("critical") for _ in range(STEADY)] == ["nominal"] * (STEADY - 1) + ["critical"]
    assert probe._steady("nominal") == "nominal"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked so")
def test_the_login_manager_is_asked_for_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loginctl = tmp_path / "loginctl"  # as systemd's: without a user it shows the manager, which has no display
    session = tmp_path / "session"
    loginctl.write_text(
        "#!/bin/sh\n"
        f'[ "$1 $2" = "show-user {os.getuid()}" ] && echo Display=c7 && exit\n'
        f'[ "$1 $2" = "show-session c7" ] && exec cat "{session}"\n'
        "echo IdleHint=no\n"
    )
    loginctl.chmod(0o755)
    terminal = tmp_path / "pts" / "0"
    terminal.parent.mkdir()
    terminal.write_text("")
    monkeypatch.setattr("peerinfer.telemetry.probes.user.LOGINCTL", str(loginctl))
    monkeypatch.setattr("peerinfer.telemetry.probes.user.TERMINALS", ((terminal.parent, "*"),))
    for idle_s, hint, active in (
        (10**6, "IdleHint=no\nIdleSinceHint=17", True),
        (0, "IdleHint=yes\nIdleSinceHint=17", False),
        (10**6, "IdleHint=no\nIdleSinceHint=0", None),
        (0, "IdleHint=no\nIdleSinceHint=0", True),
    ):
        touched_s = time.time() - idle_s
        os.utime(terminal, (touched_s, touched_s))
        session.write_text(f"Id=c7\nType=wayland\nState=active\n{hint}\n")
        assert UserProbe().read() == Reading(user_active=active)
    session.write_text("Id=c7\nType=tty\nState=active\nIdleHint=no\nIdleSinceHint=17\n")
    os.utime(terminal, (0, 0))
    assert UserProbe().read() == Reading(user_active=False)


def test_a_tool_that_is_missing_fails_or_hangs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerinfer.telemetry.probes.commands.TIMEOUT_S", 0.2)
    python = sys.executable
    assert output_of("/no/such/tool") == ""
    assert output_of(python, "-c", "import sys; print('no'); sys.exit(1)") == ""
    assert output_of(python, "-c", "import time; time.sleep(60)") == ""
