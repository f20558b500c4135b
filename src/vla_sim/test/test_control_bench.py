# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what it says: known lags and errors come out, and laws are told apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import vla_control
from vla_sim import robots
from vla_sim.control_bench import curves, exercises, measures, page, programs, runs, table
from vla_sim.control_bench.hardware import ModelError, Rig
from vla_sim.control_bench.measures import Record
from vla_sim.typing import FloatArray

PANDA = robots.get("panda")
HOME = table.home_pose(PANDA)
ROOT = Path(__file__).resolve().parents[3]


def rig_of(name: str = "", **changes: object) -> Rig:
    hardware = dataclasses.replace(table.hardware_of(PANDA, name), **changes)  # type: ignore[arg-type]
    return Rig(PANDA, hardware, 1000.0)


def made_record(positions: FloatArray, times: FloatArray) -> Record:
    n = len(times)
    columns = {
        "time": times[:, None],
        "position": positions,
        "rotation": np.tile(HOME[:3, :3].reshape(9), (n, 1)),
        "tau": np.zeros((n, 7)),
        "dq": np.zeros((n, 7)),
    }
    return Record(columns, 1e-3, 0.0, 0)


@pytest.mark.parametrize("late", [-0.004, 0.0, 0.003, 0.140])
def test_a_known_lag_and_offset_are_found(late: float) -> None:
    curve = curves.figure8(HOME)
    times = np.arange(0.0, curve.duration, 1e-3)
    delayed = np.array([curve.pose(float(t) - late)[:3, 3] for t in times])
    found = measures.tracking(made_record(delayed, times), curve)
    assert found.lag_ms == pytest.approx(1e3 * late, abs=0.05)
    assert found.rotation_rms_deg == pytest.approx(0.0, abs=1e-6)
    shifted = delayed + np.array([0.0, 0.0, 0.005])
    assert measures.tracking(made_record(shifted, times), curve).rms_mm == pytest.approx(
        np.hypot(found.rms_mm, 5.0), abs=1e-6
    )


def test_the_figure_of_eight_is_as_fast_as_it_says() -> None:
    curve = curves.figure8(HOME)
    times = np.arange(0.0, curve.duration, 1e-3)
    points = curve.poses(times)[:, :3, 3]
    speed = np.linalg.norm(np.diff(points, axis=0), axis=1) / 1e-3
    assert speed.max() == pytest.approx(0.35, rel=1e-3)
    # It starts at rest, and the acceleration does not jump where the speed is reached.
    assert speed[0] < 1e-3
    assert np.linalg.norm(np.diff(points, n=3, axis=0), axis=1).max() / 1e-9 < 10.0


def test_angles_are_exact_even_when_small() -> None:
    for angle in (1e-9, 1e-4, 0.3, 3.1):
        turned = curves.turned(HOME, np.array([1.0, 2.0, -1.0]), angle)
        found = measures.rotation_angle(turned[None, :3, :3], HOME[None, :3, :3])
        assert found[0] == pytest.approx(angle, rel=1e-6)


def test_a_draw_changes_the_plant_and_can_be_taken_back() -> None:
    rig = rig_of()
    nominal = {name: getattr(rig.model, name).copy() for name in ("body_mass", "dof_frictionloss")}
    rig.draw(3, ModelError())
    mass = rig.model.body_mass / np.where(nominal["body_mass"] > 0, nominal["body_mass"], 1.0)
    assert 0.02 < np.abs(mass[nominal["body_mass"] > 0] - 1.0).max() <= 0.10
    friction = rig.model.dof_frictionloss[:7] / 0.2
    assert 0.06 < np.abs(friction - 1.0).max() <= 0.30
    rig.draw(None, ModelError())
    for name, value in nominal.items():
        np.testing.assert_array_equal(getattr(rig.model, name), value)


@pytest.mark.parametrize("cycles", [0, 1, 3])
def test_torques_act_as_late_as_the_hardware_says(cycles: int) -> None:
    rig = rig_of(delay_cycles=cycles, coulomb=np.zeros(7), viscous=np.zeros(7))
    push = curves.translated(HOME, np.array([0.0, 0.05, 0.0]))
    subject = runs.peer_with_poses(rig, 1000.0, runs.Gains())
    still = curves.point_to_point(push, np.zeros(3), travel=0.1, total=0.05)
    record = runs.run(rig, subject, still, runs.Feed(period=None, latency=0.0))
    commanded = np.flatnonzero(np.abs(record.columns["tau"]).max(axis=1) > 0.01)[0]
    moving = np.flatnonzero(np.abs(record.columns["dq"]).max(axis=1) > 1e-6)[0]
    # What acts during a cycle is seen in the measurement of the next.
    assert moving - commanded == cycles + 1


def test_the_same_seed_gives_the_same_figures_and_another_does_not() -> None:
    figures = []
    for seed in (1, 1, 2):
        rig = rig_of()
        rig.draw(seed, ModelError())
        exercise = exercises.Figure8(laps=0.05)
        subject = runs.ours(rig, 1000.0, exercise.gains)
        figures.append(
            exercise.measure(exercise.run(rig, subject, HOME, seed), PANDA, HOME)["figure8_rms_mm"]
        )
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


def test_the_peer_lags_as_its_law_predicts_and_the_controller_does_not() -> None:
    """F = K e - 2 sqrt(K) v: without friction it trails by D / K = 2 / sqrt(K)."""
    rig = rig_of(coulomb=np.zeros(7), viscous=np.zeros(7))
    exercise = exercises.Figure8(laps=0.25)
    lags = {}
    for law in ("", "baseline_preview", "baseline"):
        subject = table.LAWS[law](rig, 1000.0, exercise.gains)
        record = exercise.run(rig, subject, HOME, 0)
        assert record.rejected == 0
        lags[law] = exercise.measure(record, PANDA, HOME)["figure8_lag_ms"]
    assert lags["baseline_preview"] == pytest.approx(2e3 / np.sqrt(600.0), rel=0.15)
    # Poses that are held for 50 ms are 25 ms old in the mean.
    assert lags["baseline"] - lags["baseline_preview"] == pytest.approx(25.0, abs=5.0)
    assert abs(lags[""]) < 10.0


def test_a_tare_carries_what_nobody_has_told_of() -> None:
    rig = rig_of("payload")
    errors = {}
    for tare in (False, True):
        exercise = exercises.Figure8(laps=0.1, tare=tare)
        subject = runs.ours(rig, 1000.0, exercise.gains)
        record = exercise.run(rig, subject, HOME, 0)
        errors[tare] = exercise.measure(record, PANDA, HOME)["figure8_rms_mm"]
    assert errors[False] > 3.0
    assert errors[True] < 0.6 * errors[False]


def test_contact_force_is_that_of_the_plate() -> None:
    exercise = exercises.Contact(watched=1.5)
    rig = Rig(PANDA, exercise.surroundings(table.hardware_of(PANDA)), 1000.0)
    forces = {}
    for law in ("", "position_loop"):
        subject = table.LAWS[law](rig, 1000.0, exercise.gains)
        record = exercise.run(rig, subject, HOME, 0)
        forces[law] = exercise.measure(record, PANDA, HOME)
        # The plate is rigid: less than a tenth of a millimetre at the end.
        depth = HOME[2, 3] - exercise.height - record.position[-1, 2]
        assert abs(depth) < 1e-4
    assert forces[""]["contact_steady_force_n"] == pytest.approx(400.0 * 0.03, rel=0.10)
    # The exercise tells a soft arm from a stiff one.
    assert forces["position_loop"]["contact_steady_force_n"] > 40.0


def test_wiping_tells_who_keeps_the_force() -> None:
    exercise = exercises.Wipe(watched=3.0)
    rig = Rig(PANDA, exercise.surroundings(table.hardware_of(PANDA)), 1000.0)
    errors = {}
    for law in ("", "position_loop"):
        subject = table.LAWS[law](rig, 1000.0, exercise.gains)
        record = exercise.run(rig, subject, HOME, 0)
        assert record.rejected == 0
        errors[law] = exercise.measure(record, PANDA, HOME)["wipe_force_rms_n"]
    assert errors[""] < 1.0
    # It follows the same path, but knows of no force.
    assert errors["position_loop"] > 3.0


def test_wiping_a_plate_with_friction_neither_hops_nor_loses_the_force() -> None:
    exercise = exercises.Wipe(watched=3.5)
    hardware = exercise.surroundings(table.hardware_of(PANDA, "plate_friction"))
    rig = Rig(PANDA, hardware, 1000.0)
    errors = {}
    for stiff in (False, True):
        if stiff:  # the control: a rigid contact, as the plate without friction has
            rig.model.pair_solref[:], rig.model.pair_solreffriction[:] = [0.002, 1.0], 0.0
            rig.model.pair_solimp[:] = [0.99, 0.999, 1e-4, 0.5, 2.0]
        subject = runs.ours(rig, 1000.0, exercise.gains)
        record = exercise.run(rig, subject, HOME, 0)
        errors[stiff] = exercise.measure(record, PANDA, HOME)["wipe_force_rms_n"]
        force = record.columns["force"][record.within(exercise.begins, exercise.watched)]
        pressed = np.mean(force[:, 2] > 0.0)
        assert pressed == 1.0 if not stiff else pressed < 0.5
        # It does rub.
        rubbed = np.linalg.norm(force[:, :2], axis=1).sum() / force[:, 2].sum()
        assert 0.2 < rubbed < 0.31
    assert errors[False] < 1.0
    assert errors[True] > 10.0


def test_a_seam_keeps_the_makers_limits_of_jerk_and_torque_rate() -> None:
    rig, exercise = rig_of(), exercises.Seam()
    rig.draw(0, ModelError())

    def ratios(**changes: object) -> list[float]:
        subject = runs.ours(rig, 1000.0, exercise.gains, **changes)
        record = exercise.run(rig, subject, HOME, 0)
        assert record.rejected == 0
        found = exercise.measure(record, PANDA, HOME)
        names = ("seam_joint_jerk_over_limit_ratio", "seam_torque_rate_over_limit_ratio")
        return [found[name] for name in names]

    assert max(ratios()) < 0.6
    # The control: a reference that may go over to the new chunk as fast as it likes.
    unbounded = {
        "chunk__blend_time": 0.01,
        "max_linear_velocity": 10.0,
        "max_linear_acceleration": 100.0,
        "max_angular_velocity": 30.0,
        "max_angular_acceleration": 500.0,
        "torque_rate_limit": [1e5] * 7,
        "braking_torque_rate_limit": [1e5] * 7,
    }
    assert min(ratios(**unbounded)) > 1.0


def test_a_jump_of_the_acceleration_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exercises.acceleration_step(PANDA) < 1e-6
    original = vla_control.Controller.state
    seen: list[int] = []

    class Jumping:
        def __init__(self, state: vla_control.ControllerState, jump: float) -> None:
            value = np.array(state.reference_acceleration_tool_in_base)
            value[0] += jump
            self.reference_acceleration_tool_in_base = value

    def state(self: vla_control.Controller) -> Jumping:
        seen.append(1)
        return Jumping(original(self), 1e-3 * ((len(seen) - 1) // 2 % 2))

    monkeypatch.setattr(vla_control.Controller, "state", state)
    assert exercises.acceleration_step(PANDA) > 9e-4


def test_tables_hold_what_was_measured_and_nothing_else() -> None:
    figures = {"figure8_rms_mm": 2.5, "figure8_rms_mm_worst": 3.0, "figure8_rms_mm_ur5e": 4.0}
    figures["figure8_rms_mm_baseline"] = 35.0
    words = "figure of eight: distance, RMS, mm"
    assert [row for _, _, rows in page.tables(figures, ("panda",)) for row in rows] == [
        [words, "≤ 3", "2.50 (3.00)", "35.0", ""]
    ]
    # Nothing is compared with an arm that is told positions.
    alone = [
        row for _, _, rows in page.tables({"figure8_rms_mm_ur5": 2.5}, ("ur5",)) for row in rows
    ]
    assert alone == [[words, "2.50"]]
    text = page.markdown(figures, ("panda", "ur5e"))
    assert "4.00" in text
    assert "wiping" not in text
    assert page.markdown({}, ("panda",)) == ""


def test_the_page_shows_the_figures_that_lie_beside_it() -> None:
    figures = json.loads((ROOT / "docs" / "control" / "figures.json").read_text())["figures"]
    shown = (ROOT / "docs" / "control.md").read_text()
    names = (*table.ROBOTS, table.POSITION_ROBOT)
    assert page.markdown(figures, names).strip() in shown


def test_the_programs_are_called() -> None:
    assert programs.folder() is not None, "build vla_control with BUILD_TESTING=ON"
    cost = programs.update_cost(6, cycles=1000)
    assert cost["update_p99_us"] >= cost["update_p50_us"] > 0.0
    assert programs.allocations() == {"allocations_per_update": 0.0}
