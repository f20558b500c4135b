# SPDX-License-Identifier: Apache-2.0
"""The figures as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from vla_sim.control_bench import table

# Name of a figure, what it is, what is to be reached in the median of the headline.
_HEADLINE = (
    ("figure8_rms_mm", "figure of eight: distance, RMS, mm", "≤ 3"),
    ("figure8_lag_ms", "... lag, ms", "≤ 5"),
    ("figure8_rotation_rms_deg", "... angle, RMS, °", "≤ 0.5"),
    ("figure8_torque_rate_rms", "... torque rate, RMS, Nm/s", ""),
    ("figure8_noise_rms_mm", "with 2 mm of noise: distance, RMS, mm", "≤ 4"),
    ("figure8_noise_torque_rate_rms", "... torque rate, RMS, Nm/s", "≤ 2 × without noise"),
    ("step_settled_s", "426 mm in 1.2 s: within 2 mm from, s", "≤ 1.4"),
    ("step_final_error_mm", "... distance at the end, mm", "≤ 0.5"),
    ("step_final_rotation_deg", "... angle at the end, °", "≤ 0.2"),
    ("step_overshoot_percent", "... overshoot, %", "≤ 2"),
)
_CONTROLLER = (
    (
        "seam_acceleration_step",
        "seam of 20 mm, 10°: step of the acceleration, SI",
        "≤ 1e-6",
    ),
    ("seam_joint_jerk_over_limit_ratio", "... joint jerk over the maker's limit", "≤ 1"),
    ("seam_torque_rate_over_limit_ratio", "... torque rate over the maker's limit", "≤ 1"),
    ("contact_steady_force_n", "rigid plate at 0.2 m/s: force at rest, N", ""),
    ("contact_steady_error_n", "... from stiffness times depth, N", "≤ 1.5"),
    ("contact_late_peak_ratio", "... later than 100 ms over at rest", "≤ 1.2"),
    ("contact_peak_force_n", "... largest mean over 10 ms, N", ""),
    ("contact_peak_force_n_position_loop", "... the same of a stiff position loop, N", ""),
    ("contact_steady_force_n_position_loop", "... its force at rest, N", ""),
    ("wipe_force_rms_n", "wiping at 10 N: error, RMS, N", "≤ 1"),
    ("wipe_force_rms_n_plate_friction", "... on a plate with a friction of 0.3, N", "≤ 1"),
    ("update_p50_us", "one update, median, µs", ""),
    ("update_p99_us", "... 99th percentile, µs", "≤ 2 × median"),
    ("update_p50_over_floor_ratio", "... median over the rigid-body part", "≤ 3"),
    ("allocations_per_update", "allocations per update", "0"),
)
_SOAK = (
    ("soak_cycles", "control cycles", ""),
    ("soak_chunks_accepted", "chunks accepted", ""),
    ("soak_chunks_rejected", "chunks rejected", ""),
    ("soak_faults", "faults", ""),
    ("soak_violations", "checks that failed", "0"),
    ("soak_torque_over_limit_ratio", "torque over its limit", "≤ 1"),
    ("soak_torque_rate_over_limit_ratio", "torque rate over its limit", "≤ 1"),
    ("soak_braking_torque_rate_over_limit_ratio", "... of a change that brakes", "≤ 1"),
    ("soak_force_n", "force of the task law, N", "≤ 60"),
    ("soak_energy_rise_j", "energy of the plant over what came from outside, J", "≤ 4.2"),
    ("soak_rest_s", "in FAULT at rest after, s", "≤ 1.5"),
    ("soak_kinetic_energy_j", "largest kinetic energy, pushes included, J", ""),
    ("soak_joint_velocity_over_limit_ratio", "joint velocity of the plant over its limit", ""),
    ("soak_joint_beyond_limit_rad", "... joint beyond its limit, rad", ""),
    ("soak_workspace_overshoot_mm", "... tool beyond the workspace, mm", ""),
)
_LAWS = ("", "baseline", "baseline_preview")
# What is told of pressing, without a sensor and with one.
_PRESSING = ("peak_force_n", "end_force_n", "pressed_s")
_HARDWARE_WORDS = {
    "": "headline",
    "friction_b": "friction B: 0.5 Nm, 2 Nms/rad",
    "no_rotor": "no rotor inertia",
    "delay_0": "no delay",
    "delay_2": "two cycles of delay",
    "delay_3": "three cycles of delay",
    "gravity_by_controller": "gravity by the controller",
    "payload": "0.5 kg that nobody has told it of",
    "payload_tared": "... after a tare",
}


# Title, heading of each column, rows of words.
Table = tuple[str, list[str], list[list[str]]]


def tables(figures: Mapping[str, float], names: tuple[str, ...]) -> list[Table]:
    """Return the tables of some arms; a figure that was not measured has no row."""
    found = []
    for name in names:
        suffix = table.suffix_of(name)
        found += [
            (f"{name}: median (worst) of the draws", *_laws(figures, suffix)),
            (f"{name}: this controller", *_controller(figures, suffix)),
            (f"{name}: figure of eight on other hardware", *_hardware(figures, suffix)),
            (f"{name}: down onto a rigid plate, told positions", *_pressing(figures, suffix)),
            (f"{name}: soak", *_soak(figures, suffix)),
        ]
    return [(title, head, rows) for title, head, rows in found if rows]


def markdown(figures: Mapping[str, float], names: tuple[str, ...]) -> str:
    """Return the tables in Markdown."""
    lines = []
    for title, head, rows in tables(figures, names):
        lines += [f"**{title}**", ""]
        lines += ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
        lines.append("")
    return "\n".join(lines)


def _laws(figures: Mapping[str, float], suffix: str) -> tuple[list[str], list[list[str]]]:
    head = ["", "to reach", "this controller", "peer's law, poses", "peer's law, our reference"]
    rows = []
    for name, words, goal in _HEADLINE:
        keys = [f"{name}{suffix}{f'_{law}' if law else ''}" for law in _LAWS]
        if keys[0] in figures:
            rows.append([words, goal, *(_cell(figures, key) for key in keys)])
    if f"figure8_rms_mm{suffix}_baseline" in figures:
        return head, rows
    # An arm that is told positions: nothing is compared with it, and the goals are not for it.
    return ["", "measured"], [[row[0], row[2]] for row in rows if "torque" not in row[0]]


def _controller(figures: Mapping[str, float], suffix: str) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    for name, words, goal in _CONTROLLER:
        kinds = ("_position_loop", "_plate_friction")
        kind = next((end for end in kinds if name.endswith(end)), "")
        key = f"{name.removesuffix(kind)}{suffix}{kind}"
        if name == "allocations_per_update":
            # Counted for all arms together; it goes with what an update costs.
            key = name if rows else ""
        if key in figures:
            rows.append([words, goal, _cell(figures, key)])
    return ["", "to reach", "measured"], rows


def _soak(figures: Mapping[str, float], suffix: str) -> tuple[list[str], list[list[str]]]:
    keys = [(f"{name}{suffix}", words, goal) for name, words, goal in _SOAK]
    rows = [[words, goal, _cell(figures, key)] for key, words, goal in keys if key in figures]
    return ["", "to hold", "seen"], rows


def _pressing(figures: Mapping[str, float], suffix: str) -> tuple[list[str], list[list[str]]]:
    head = ["speed, m/s"]
    for kind in ("no sensor", "sensor"):
        head += [f"{kind}: largest mean over 10 ms, N", "at the end, N", "touched for, s"]
    rows = []
    for speed in table.PRESS_SPEEDS:
        name = f"press_{round(1e3 * speed)}"
        keys = [f"{name}_{k}{suffix}{end}" for end in ("", "_force_sensor") for k in _PRESSING]
        if all(key in figures for key in keys):
            rows.append([f"{speed:g}", *(_cell(figures, key) for key in keys)])
    return head, rows


def _hardware(figures: Mapping[str, float], suffix: str) -> tuple[list[str], list[list[str]]]:
    rows = []
    for hardware, words in _HARDWARE_WORDS.items():
        end = f"{suffix}_{hardware}" if hardware else suffix
        keys = [f"figure8_{part}{end}" for part in ("rms_mm", "lag_ms", "rotation_rms_deg")]
        if all(key in figures for key in keys):
            rows.append([words, *(_cell(figures, key) for key in keys)])
    # The headline alone says nothing new.
    return ["", "distance, mm", "lag, ms", "angle, °"], rows if len(rows) > 1 else []


def _cell(figures: Mapping[str, float], key: str) -> str:
    if key not in figures:
        return ""
    worst = figures.get(f"{key}_worst")
    return _number(figures[key]) + (f" ({_number(worst)})" if worst is not None else "")


def _number(value: float) -> str:
    if value == 0.0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.0e}"
    digits = 0 if abs(value) >= 100.0 else 1 if abs(value) >= 10.0 else 2
    return f"{value:.{digits}f}"
