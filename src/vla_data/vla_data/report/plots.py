# SPDX-License-Identifier: Apache-2.0
"""Plots of one episode: where the tool was meant to be and was, and what the joints did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vla_data.report.history import PHASES, ControllerHistory, Floats
from vla_data.report.measures import torque_ratio

MEASURED = "#1b5fa7"
REFERENCE = "#f4a259"
REFERENCE_LINE: Any = {"color": REFERENCE, "linewidth": 4.5, "solid_capstyle": "butt"}
LIMIT = "#c5221f"
INK = "#26323f"
PHASE_COLOURS = {
    "inactive": "#d7dade",
    "holding": "#eef0f2",
    "tracking": "#ddeee2",
    "braking": "#fdebc8",
    "fault": "#f8cfcc",
}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ffffff",
    "grid.linewidth": 0.9,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "white",
}
DPI = 110


def plot_tracking(history: ControllerHistory, path: Path, title: str, subtitle: str = "") -> None:
    """Plots reference against measured tool pose, and the errors between them.

    Args:
        history: The controller's states.
        path: PNG file to write.
        title: First line.
        subtitle: Second line.
    """
    with matplotlib.rc_context(STYLE):
        figure, _, axes = _figure(5, 1, 5, (11.0, 10.0), title, subtitle)
        for axis, row in enumerate("xyz"):
            axes[axis].plot(history.time, history.reference_position[:, axis], **REFERENCE_LINE)
            axes[axis].plot(history.time, history.position[:, axis], color=MEASURED)
            axes[axis].set_ylabel(f"{row} / m")
            _widen(axes[axis], 0.02)
        axes[0].set_title(
            f"Tool point {history.tool_frame} in {history.base_frame}".replace("  ", " ")
        )
        _error(axes[3], history, history.position_error * 1e3, "distance / mm")
        axes[3].set_title("Error, reference to measured")
        _error(axes[4], history, np.rad2deg(history.orientation_error), "angle / deg")
        lines = [
            Line2D([], [], **REFERENCE_LINE, label="reference"),
            Line2D([], [], color=MEASURED, label="measured"),
            Line2D([], [], color=INK, label="error"),
        ]
        figure.align_ylabels(axes)
        _save(figure, axes, 1, history, lines, path)


def plot_torques(history: ControllerHistory, path: Path, title: str, subtitle: str = "") -> None:
    """Plots each joint's commanded torque between its limits.

    Args:
        history: The controller's states.
        path: PNG file to write.
        title: First line.
        subtitle: Second line.
    """
    ratio = torque_ratio(history)
    joints = len(history.joint_names)
    with matplotlib.rc_context(STYLE):
        rows = max(1, (joints + 1) // 2)
        figure, grid, axes = _figure(rows, 2, joints, (12.0, 1.2 + 2.1 * rows), title, subtitle)
        for joint, name in enumerate(history.joint_names):
            axis = axes[joint]
            axis.plot(history.time, history.tau[:, joint], color=MEASURED, linewidth=1.1)
            limit = history.tau_limit[:, joint]
            for side in (limit, -limit):
                axis.plot(history.time, side, color=LIMIT, linewidth=1.2, linestyle=(0, (5, 3)))
            saturated = ratio[:, joint] >= 1.0 - 1e-9
            axis.plot(
                history.time[saturated],
                history.tau[saturated, joint],
                linestyle="none",
                marker="o",
                markersize=3.5,
                color=LIMIT,
            )
            peak = _peak(ratio[:, joint])
            axis.set_title(name if peak is None else f"{name}   peak {100 * peak:.0f} % of limit")
            if joint % 2 == 0:
                axis.set_ylabel("torque / Nm")
        if joints % 2:
            _peaks(figure.add_subplot(grid[-1, -1]), history.joint_names, ratio)
        lines = [
            Line2D([], [], color=MEASURED, label="commanded"),
            Line2D([], [], color=LIMIT, linestyle=(0, (5, 3)), label="limit"),
        ]
        _save(figure, axes, 2, history, lines, path)


def _figure(
    rows: int, columns: int, panels: int, size: tuple[float, float], title: str, subtitle: str
) -> tuple[Figure, GridSpec, list[Axes]]:
    """Lays a figure out with fixed margins, given in inches."""
    width, height = size
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    grid = GridSpec(
        rows,
        columns,
        figure,
        left=0.85 / width,
        right=1.0 - 0.2 / width,
        top=1.0 - 1.3 / height,
        bottom=0.6 / height,
        hspace=0.28,
        wspace=0.14,
    )
    axes = [figure.add_subplot(grid[0, 0])]
    for place in range(1, panels):
        axes.append(figure.add_subplot(grid[divmod(place, columns)], sharex=axes[0]))
    figure.text(0.2 / width, 1.0 - 0.28 / height, title, fontsize=14, weight="bold", va="center")
    figure.text(0.2 / width, 1.0 - 0.56 / height, subtitle, color="#5b6875", va="center")
    return figure, grid, axes


def _error(axis: Axes, history: ControllerHistory, values: Floats, label: str) -> None:
    axis.plot(history.time, values, color=INK, linewidth=1.1)
    axis.set_ylabel(label)
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    axis.set_ylim(0.0, max(1.12 * top, 0.1))
    moving = history.moving & np.isfinite(values)
    if moving.any():
        rms = float(np.sqrt(np.mean(values[moving] ** 2)))
        unit = label.split("/")[-1].strip()
        axis.set_title(
            f"while moving: RMS {rms:.1f} {unit}, max {values[moving].max():.1f} {unit}",
            loc="right",
        )


def _peaks(axis: Axes, names: Sequence[str], ratio: Floats) -> None:
    """Compares the joints' highest torques in the free corner of an odd number of joints."""
    peaks = [100.0 * (_peak(ratio[:, joint]) or 0.0) for joint in range(len(names))]
    colours = [LIMIT if peak >= 100.0 - 1e-6 else MEASURED for peak in peaks]
    axis.barh(range(len(names)), peaks, color=colours, height=0.62)
    axis.axvline(100.0, color=LIMIT, linewidth=1.2, linestyle=(0, (5, 3)))
    for row, (name, peak) in enumerate(zip(names, peaks, strict=True)):
        inside = peak > 60.0
        axis.text(
            peak - 1.5 if inside else peak + 1.5,
            row,
            name,
            ha="right" if inside else "left",
            va="center",
            fontsize=8.5,
            color="white" if inside else INK,
        )
    axis.set_yticks([])
    axis.invert_yaxis()
    axis.set_xlim(0.0, max(105.0, 1.05 * max(peaks)))
    axis.set_facecolor(PHASE_COLOURS["holding"])
    axis.grid(visible=False, axis="y")
    axis.set_title("Highest torque")
    axis.set_xlabel("share of the limit / %")


def _widen(axis: Axes, least: float) -> None:
    """Keeps a resting signal from being magnified into noise."""
    low, high = axis.get_ylim()
    if high - low < least:
        middle = (low + high) / 2
        axis.set_ylim(middle - least / 2, middle + least / 2)


def _peak(ratio: Floats) -> float | None:
    return float(np.nanmax(ratio)) if np.isfinite(ratio).any() else None


def _save(
    figure: Figure,
    axes: Sequence[Axes],
    columns: int,
    history: ControllerHistory,
    lines: list[Line2D],
    path: Path,
) -> None:
    spans = list(history.spans())
    for axis in axes:
        for span in spans:
            axis.axvspan(
                span.start, span.end, color=PHASE_COLOURS[span.phase], linewidth=0, zorder=0
            )
        axis.set_xlim(history.time[0], max(history.time[-1], history.time[0] + 0.1))
    for place, axis in enumerate(axes):
        last = place // columns == (len(axes) - 1) // columns
        axis.tick_params(labelbottom=last)
        if last:
            axis.set_xlabel("time since the bag's first message / s")
    seen = [phase for phase in PHASES if any(span.phase == phase for span in spans)]
    handles: list[Any] = [
        *lines,
        *(
            Patch(facecolor=PHASE_COLOURS[phase], edgecolor="#c3cad1", label=phase)
            for phase in seen
        ),
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.12 / figure.get_figwidth(), 1.0 - 0.68 / figure.get_figheight()),
        ncols=len(handles),
        handlelength=1.8,
        columnspacing=1.6,
        borderaxespad=0.2,
    )
    figure.savefig(path, dpi=DPI)
