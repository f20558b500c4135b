# SPDX-License-Identifier: Apache-2.0
"""`vla doctor`: checks what the suite needs and says how to get what is missing."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vla_nodes.commands import figures
from vla_nodes.system import description as system

MIN_SHARED_MEMORY = 256 << 20  # bytes


class CheckError(RuntimeError):
    """A check found something missing; the text says what to do."""


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    good: bool
    text: str


def _import(*modules: str) -> Callable[[], str]:
    def check() -> str:
        for module in modules:
            try:
                import_module(module)
            except ImportError as error:
                raise CheckError(f"{module}: {error}; run `make build`") from None
        return ", ".join(modules)

    return check


def _shared_memory() -> str:
    free = shutil.disk_usage("/dev/shm").free
    if free < MIN_SHARED_MEMORY:
        raise CheckError(
            f"{free >> 20} MiB free in /dev/shm, images need {MIN_SHARED_MEMORY >> 20}; "
            "in a container start it with --shm-size=1g"
        )
    return f"{free >> 20} MiB free in /dev/shm"


def _dds() -> str:
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE", "")
    if not Path(profile).is_file():
        raise CheckError(
            "FASTDDS_DEFAULT_PROFILES_FILE names no file, so images will be lost; "
            "start `vla` through .venv/bin/vla"
        )
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    return f"profile {Path(profile).name}, discovery {reach}"


def _rendering() -> str:
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")
    try:
        with mujoco.Renderer(model, 16, 16) as renderer:
            renderer.update_scene(mujoco.MjData(model))
            renderer.render()
    except Exception as error:
        raise CheckError(
            f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '')} cannot draw ({error}); "
            "install Debian's libegl1 and libgl1-mesa-dri"
        ) from None
    return f"MUJOCO_GL={os.environ.get('MUJOCO_GL', 'default')}"


def _checkpoint() -> str:
    import vla_policy

    policy = vla_policy.load_policy()
    return f"nano_pi0, {policy.spec.policy_id[:12]}"


def _systems() -> str:
    names = system.system_names()
    if not names:
        raise CheckError("no system description found; run `make build`")
    for name in names:
        system.load_system(name)
    return ", ".join(names)


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("ROS 2", _import("rclpy", "sensor_msgs.msg", "tf2_msgs.msg")),
    ("messages", _import("vla_msgs.msg", "vla_msgs.srv", "vla_msgs.action")),
    (
        "packages",
        _import("vla_control", "vla_sim.simulation", "vla_data", "vla_policy", "vla_failure"),
    ),
    ("DDS", _dds),
    ("shared memory", _shared_memory),
    ("rendering", _rendering),
    ("systems", _systems),
    ("policy", _checkpoint),
)


def run_checks() -> list[Check]:
    """Runs every check; none stops the others."""
    results = []
    for name, check in CHECKS:
        try:
            results.append(Check(name, True, check()))
        except Exception as error:  # a check that fails in an unforeseen way is a finding too
            results.append(Check(name, False, str(error)))
    return results


def main(options: argparse.Namespace) -> int:
    """Prints the checks; exit status 1 when one failed."""
    results = run_checks()
    failed = sum(not result.good for result in results)
    if options.json:
        numbers = {"checks_count": len(results), "failed_count": failed}
        print(figures.report(numbers, {"checks": [asdict(result) for result in results]}))
    else:
        table = Table.grid(padding=(0, 2))
        for result in results:
            mark = Text("ok", style="green") if result.good else Text("missing", style="red")
            table.add_row(result.name, mark, Text(result.text))
        Console().print(table)
    return int(failed > 0)
