# SPDX-License-Identifier: Apache-2.0
"""Pictures of the benchmark: path and error over time, the end of a move, force of contact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vla_sim.control_bench import curves, exercises, measures, table
from vla_sim.control_bench.exercises import Exercise
from vla_sim.control_bench.hardware import ModelError, Rig
from vla_sim.control_bench.measures import Record
from vla_sim.robots import RobotSpec
from vla_sim.typing import FloatArray

# Label, colour and line of each law.
_STYLES = {
    "": ("this controller", "#1b6ca8", "-"),
    "baseline": ("peer's law, poses at 20 Hz", "#d1495b", "-"),
    "baseline_preview": ("peer's law, our reference", "#edae49", "--"),
    "position_loop": ("stiff position loop", "#6c757d", "-"),
}
_WANTED = "#2b2b2b"
# The draw that is shown.
_SEED = 0


def draw_all(robot: RobotSpec, home: FloatArray, folder: Path) -> list[Path]:
    """Run the exercises once more on one draw and write a picture of each; returns the files."""
    # Read when matplotlib is imported: no display is needed.
    os.environ.setdefault("MPLBACKEND", "Agg")
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _figure8(robot, home, folder / f"figure8_{robot.name}.png"),
        _step(robot, home, folder / f"step_{robot.name}.png"),
        _contact(robot, home, folder / f"contact_{robot.name}.png"),
    ]


def _records(
    robot: RobotSpec, home: FloatArray, exercise: Exercise, laws: tuple[str, ...]
) -> dict[str, Record]:
    rate = robot.arm.drives.control_rate
    rig = Rig(robot, exercise.surroundings(table.hardware_of(robot)), rate)
    found = {}
    for law in laws:
        rig.draw(_SEED, ModelError())
        subject = table.LAWS[law](rig, rate, exercise.gains)
        found[law] = exercise.run(rig, subject, home, _SEED)
    return found


def _figure8(robot: RobotSpec, home: FloatArray, path: Path) -> Path:
    exercise = exercises.Figure8()
    curve = exercise.curve(home)
    records = _records(robot, home, exercise, ("", "baseline", "baseline_preview"))
    figure, (left, right) = _canvas(2)
    for law, record in records.items():
        rows = record.within(curve.measured_from, curve.duration)
        offset = 1e3 * (record.position[rows] - home[:3, 3])
        left.plot(
            offset[:, 1],
            offset[:, 0],
            zorder=3,
            **_style(law),
        )
        error = 1e3 * measures.position_error(record, curve)
        right.plot(record.time, error, **_style(law))
    times = np.linspace(curve.measured_from, curve.duration, 400)
    wanted = 1e3 * (np.array([curve.pose(float(t))[:3, 3] for t in times]) - home[:3, 3])
    left.plot(wanted[:, 1], wanted[:, 0], color=_WANTED, ls=":", lw=1.4, label="wanted", zorder=4)
    left.set(xlabel="sideways, mm", ylabel="forwards, mm", title="Path of the tool, from above")
    left.set_aspect("equal", adjustable="datalim")
    right.axvspan(0.0, curve.measured_from, color="0.93", lw=0)
    right.set(xlabel="time, s", ylabel="distance, mm", title="Distance from the wanted pose")
    right.set(xlim=(0.0, curve.duration), ylim=(0.0, None))
    return _save(figure, left, path, f"{robot.arm.title}: figure of eight, 0.35 m/s peak")


def _step(robot: RobotSpec, home: FloatArray, path: Path) -> Path:
    exercise = exercises.Step()
    records = _records(robot, home, exercise, ("", "baseline", "baseline_preview"))
    start, direction = exercise.start(home), exercises.STEP_DIRECTION
    curve = exercise.curve(home)
    figure, (left, right) = _canvas(2)
    for law, record in records.items():
        along = 1e3 * ((record.position - start[:3, 3]) @ direction)
        left.plot(record.time, along, **_style(law))
        error = 1e3 * np.linalg.norm(record.position - curve.pose(curve.duration)[:3, 3], axis=1)
        right.plot(record.time, error, **_style(law))
    times = np.linspace(0.0, exercise.watched, 300)
    wanted = (
        1e3
        * exercises.STEP_LENGTH
        * np.array([curves.minimum_jerk(float(t) / exercise.travel) for t in times])
    )
    left.plot(times, wanted, color=_WANTED, ls=":", lw=1.4, label="wanted")
    left.set(xlabel="time, s", ylabel="way, mm", title="Way along the move", xlim=(0, 2))
    right.axhline(2.0, color=_WANTED, lw=0.8, ls=":")
    right.text(2.95, 2.15, "2 mm: settled", ha="right", fontsize=8)
    right.axvline(1.4, color=_WANTED, lw=0.8, ls=":")
    right.set(xlabel="time, s", ylabel="distance from the end, mm", title="Arrival")
    right.set(xlim=(1.0, exercise.watched), ylim=(0.0, 12.0))
    return _save(figure, left, path, f"{robot.arm.title}: 426 mm in one chunk of 1.2 s")


def _contact(robot: RobotSpec, home: FloatArray, path: Path) -> Path:
    exercise = exercises.Contact()
    records = _records(robot, home, exercise, ("", "position_loop"))
    figure, (left, right) = _canvas(2)
    for law, record in records.items():
        force = record.columns["force"][:, 2]
        began = record.time[np.flatnonzero(force > 0.0)[0]]
        width = max(1, round(0.01 / record.period))
        smooth = np.convolve(force, np.full(width, 1.0 / width), mode="same")
        for axes in (left, right):
            axes.plot(record.time - began, smooth, **_style(law))
    spring = exercise.gains.translational * exercise.beyond
    right.axhline(spring, color=_WANTED, lw=1.0, ls=":")
    right.text(1.95, spring * 0.8, f"spring alone: {spring:.0f} N", ha="right", fontsize=8)
    left.set(xlabel="time after the impact, s", ylabel="force of the plate, N")
    left.set(title="Force (mean over 10 ms)", xlim=(-0.1, 2.0))
    right.set(xlabel="time after the impact, s", ylabel="N", title="The same, larger")
    right.set(xlim=(-0.1, 2.0), ylim=(0.0, 4.0 * spring))
    return _save(figure, left, path, f"{robot.arm.title}: onto a rigid plate at 0.2 m/s")


def _style(law: str) -> dict[str, str]:
    label, color, line = _STYLES[law]
    return {"label": label, "color": color, "linestyle": line}


def _canvas(columns: int) -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(5.2 * columns, 4.2), layout="constrained")
    for ax in axes:
        ax.grid(color="0.9", lw=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, first: Any, path: Path, title: str) -> Path:
    from matplotlib import pyplot

    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
