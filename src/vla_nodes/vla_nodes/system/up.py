# SPDX-License-Identifier: Apache-2.0
"""`vla up`: runs a system as processes, drives the demo, and ends everything cleanly."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from vla_nodes.commands import figures
from vla_nodes.console.access import TOKEN, new_token
from vla_nodes.node_tools import spin_aside
from vla_nodes.supervision import exclusive
from vla_nodes.supervision.exclusive import RIVAL, RivalError
from vla_nodes.system import shared_memory
from vla_nodes.system.demo import Demo, Episode, Request
from vla_nodes.system.description import (
    CONSOLE,
    FAILURE,
    MANAGER,
    NO_DETECTOR,
    POLICY,
    RECORDER,
    SIMULATOR,
    System,
    SystemDescriptionError,
    load_system,
    prepared,
)
from vla_nodes.system.monitor import Monitor
from vla_nodes.system.processes import LogFile, Process, ProcessGroup, describe_exit
from vla_nodes.system.view import View, episode_table

LOOP_PERIOD = 0.1  # s
DISCOVERY = 1.0  # s to hear of a supervisor on another machine


class Run:
    """One run of a system, from the first process to the report."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        """Reads the system's description.

        Args:
            options: As parsed by `cli`.
            console: Where people read.

        Raises:
            SystemDescriptionError: The system or an override is not valid.
        """
        self.options = options
        self.console = console
        self.system = prepared(
            load_system(options.system),
            record=options.record,
            detector=options.failure_detector,
            uncalibrated=options.uncalibrated,
            console=options.console,
            overrides=overrides(options),
        )
        started = time.strftime("%Y%m%d-%H%M%S")
        self.folder: Path = options.report or Path("runs") / f"{started}-{self.system.name}"
        self.problem = ""
        self.group: ProcessGroup | None = None
        self.respawns = 0
        self.requests = make_requests(self.system, options)

    def execute(self) -> int:
        """Runs everything. Returns the exit status."""
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        log = LogFile(self.folder / "processes.log")
        monitor = Monitor()
        mover = _make_mover() if self.options.home else None
        nodes_here = [monitor] if mover is None else [monitor, mover]
        spinner = spin_aside(*nodes_here)
        manager = self.system.entry(MANAGER)
        demo = Demo(
            monitor,
            self.requests,
            self.options.time_limit or self.system.time_limit,
            manager.full_name if manager else None,
            self._on_episode,
            None if mover is None else mover.go_home,
        )
        nodes = [entry.full_name for entry in self.system.nodes]
        view = View(monitor, demo, len(self.requests), nodes, self.console)
        self.console.print(f"{self.system.name}: {self.system.description}. Log: {log.path}")
        self.console.print(f"Failure detector: {self._detector()}")
        if self.options.uncalibrated:
            self.console.print("UNCALIBRATED, as asked for: nothing can alarm", style="yellow")
        interrupted = False
        try:
            if _another_runs(monitor):
                raise RivalError(RIVAL)
            self.group = ProcessGroup(self.system.nodes, log, self._environment())
            demo.start()
            view.start()
            self._watch(demo, view, monitor)
        except KeyboardInterrupt:
            interrupted = True
        except OSError as error:
            self.problem = str(error)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what follows is short and must be whole
            view.stop()
            self._finish(demo, monitor, log, spinner, interrupted)
        return self._conclude(demo, monitor, interrupted)

    def _environment(self) -> dict[str, str]:
        """That of the processes; a console gets its first token in it, and people the address."""
        values = environment()
        console = self.system.entry(CONSOLE)
        if console is not None:
            values[TOKEN] = new_token()
            page = f"http://127.0.0.1:{console.values()['port']}/#{values[TOKEN]}"
            self.console.print(f"Console: {page}", highlight=False, soft_wrap=True)
        return values

    def _watch(self, demo: Demo, view: View, monitor: Monitor) -> None:
        """Until the demo is done, a required process ends, or Ctrl-C."""
        while demo.is_alive() or not self.requests:
            ended = self.group.check() if self.group else None
            if ended is not None:
                self.problem = (
                    f"{ended.entry.name} {describe_exit(ended.poll())}; the arm is held and "
                    "everything is shut down"
                )
                _print_tail(self.console, ended)
                return
            if monitor.rival:
                self.problem = RIVAL
                return
            view.update()
            if not self.requests and demo.error:
                return
            time.sleep(LOOP_PERIOD)

    def _finish(
        self,
        demo: Demo,
        monitor: Monitor,
        log: LogFile,
        spinner: threading.Thread,
        interrupted: bool,
    ) -> None:
        if interrupted:
            self.console.print("Stopping ...")
        if self.problem and monitor.supervisor_stop.service_is_ready():
            monitor.supervisor_stop.call_async(_stop_request())
        demo.stop()
        if demo.is_alive():
            demo.join(timeout=8.0)
        self._drops = monitor.value(self._full_name(RECORDER), "drops")
        self._overruns = monitor.value(self._full_name(SIMULATOR), "overruns")
        self._latency = monitor.value(self._full_name(POLICY), "latency median (ms)")
        log.write("vla", "ends all processes")
        if self.group is not None:
            self.respawns = self.group.respawns
            killed = self.group.stop()
            log.write("vla", "all processes have ended")
            if killed:
                self.console.print(f"had to be killed: {', '.join(killed)}")
        log.close()
        rclpy.try_shutdown()
        spinner.join(timeout=5.0)
        monitor.destroy_node()
        shared_memory.remove_stale()

    def _full_name(self, executable: str) -> str:
        entry = self.system.entry(executable)
        return entry.full_name if entry else ""

    def _on_episode(self, episode: Episode) -> None:
        if not self.console.is_terminal:
            self.console.print(
                f"{episode.instruction}: {episode.verdict.name.lower()} "
                f"({episode.source.name.lower()}: {episode.message}), {episode.duration:.1f} s"
            )

    def _conclude(self, demo: Demo, monitor: Monitor, interrupted: bool) -> int:
        if demo.episodes:
            self.console.print(episode_table(demo.episodes))
        problem = self.problem or demo.error
        bags = self._bags(demo.episodes)
        if bags:
            self.console.print(f"Recorded: {len(bags)} bags in {self.options.record}")
        if interrupted:
            kept = f"{len(demo.episodes)} of {len(self.requests)} episodes are done"
            self.console.print(f"Interrupted: {kept}; bags and log are kept.")
        numbers = self._figures(demo.episodes, monitor)
        if self.options.report is not None:
            self._write_report(bags, numbers)
        if problem:
            Console(stderr=True).print(f"vla up: {problem}", style="red", highlight=False)
        if self.options.json:
            print(figures.report(numbers, self._settings()))
        return 130 if interrupted else int(bool(problem))

    def _bags(self, episodes: Sequence[Episode]) -> list[Path]:
        if self.options.record is None:
            return []
        paths = [self.options.record / episode.episode_id for episode in episodes]
        return [path for path in paths if (path / "metadata.yaml").is_file()]

    def _figures(self, episodes: Sequence[Episode], monitor: Monitor) -> dict[str, Any]:
        measured = monitor.measured
        ages = sorted(measured.chunk_ages)
        successes = [episode for episode in episodes if episode.success]
        numbers: dict[str, Any] = {
            "episodes_count": len(episodes),
            "success_rate": len(successes) / len(episodes) if episodes else None,
            "chunk_age_p50_ms": _percentile_ms(ages, 0.5),
            "chunk_age_p95_ms": _percentile_ms(ages, 0.95),
            "inference_latency_p50_ms": self._latency,
            "realtime_factor_mean": _mean(measured.realtime_factors),
            "realtime_factor_min": min(measured.realtime_factors, default=None),
            "overruns_count": self._overruns,
            "torque_saturated_fraction": measured.torque_saturated / max(1, measured.states),
            "respawns_count": self.respawns,
        }
        if self.options.record is not None:
            numbers["drops_count"] = self._drops
        for task in sorted({episode.request.task for episode in episodes if episode.request.task}):
            ours = [episode.success for episode in episodes if episode.request.task == task]
            numbers[f"success_rate_{task}"] = sum(ours) / len(ours)
        return numbers

    def _settings(self) -> dict[str, Any]:
        options = self.options
        return {
            "system": self.system.name,
            "episodes": [vars(request) for request in self.requests],
            "time_limit": options.time_limit or self.system.time_limit,
            "record": options.record,
            "failure_detector": self._detector(),
            "report": options.report,
        }

    def _detector(self) -> str:
        entry = self.system.entry(FAILURE)
        return str(entry.values()["detector"]) if entry else NO_DETECTOR

    def _write_report(self, bags: Sequence[Path], numbers: dict[str, Any]) -> None:
        folder: Path = self.options.report
        (folder / "run.json").write_text(
            figures.report(numbers, self._settings()) + "\n", encoding="utf-8"
        )
        if bags:
            from vla_data.report.summary import write_report

            self.console.print("Writing the report ...")
            write_report(bags, folder)
        self.console.print(f"Report: {folder}")


def overrides(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Parameters that the command line sets, by executable."""
    changes: dict[str, dict[str, Any]] = {}
    if options.viewer:
        changes[SIMULATOR] = {"viewer": True}
    if options.suite:
        changes.setdefault(SIMULATOR, {})["suite"] = options.suite
    if options.speed:
        changes.setdefault(SIMULATOR, {})["speed"] = options.speed
    if options.policy:
        changes[POLICY] = {"checkpoint": options.policy}
    return changes


def make_requests(system: System, options: argparse.Namespace) -> list[Request]:
    """The episodes that the command line asks for.

    Raises:
        SystemDescriptionError: They do not fit the system.
    """
    from vla_sim import seeds, suites

    if options.suite:
        try:
            suites.get(options.suite)
        except ValueError as error:
            raise SystemDescriptionError(f"--suite: {error}") from None
    tasks = options.task or list(system.tasks)
    if options.instruction and not options.task:
        return [Request("", 0, options.instruction)] * max(1, options.episodes)
    if options.episodes and not tasks:
        raise SystemDescriptionError(f"{system.name} names no tasks; give --instruction or --task")
    try:
        numbers = seeds.seeds("rollouts", options.episodes, options.seed)
    except ValueError as error:
        raise SystemDescriptionError(f"--seed: {error}") from None
    return [
        Request(tasks[i % len(tasks)], number, options.instruction or "")
        for i, number in enumerate(numbers)
    ]


def environment() -> dict[str, str]:
    """Environment of the processes: DDS stays on this machine unless the user said otherwise."""
    values = dict(os.environ)
    values.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    values.setdefault("MUJOCO_GL", "egl")
    values.setdefault("PYTHONUNBUFFERED", "1")
    # One thread per library and process: the policy sets its own number.
    values.setdefault("OMP_NUM_THREADS", "1")
    return values


def _make_mover() -> Any:
    # Loads the arms' descriptions and pinocchio, which a run without it does not need.
    from vla_nodes.teleop.joint_mover import JointMover

    return JointMover()


def _another_runs(monitor: Monitor) -> bool:
    """Whether somebody owns the arm: on this machine for sure, elsewhere if heard of in time."""
    owner_topic = monitor.resolve_topic_name("control_owner")
    return exclusive.is_held(owner_topic, monitor.context.get_domain_id()) or monitor.wait(
        lambda: monitor.count_publishers(owner_topic) > 0, DISCOVERY, threading.Event()
    )


def _stop_request() -> Any:
    from std_srvs.srv import Trigger

    return Trigger.Request()


def _print_tail(console: Console, process: Process) -> None:
    for line in process.tail:
        console.print(f"  [{process.entry.name}] {line}", markup=False, highlight=False)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _percentile_ms(ordered: Sequence[float], fraction: float) -> float | None:
    if not ordered:
        return None
    return 1e3 * ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main(options: argparse.Namespace) -> int:
    """Runs a system as the command line says."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=options.json, highlight=False)
    try:
        run = Run(options, console)
    except SystemDescriptionError as error:
        print(f"vla up: {error}", file=sys.stderr)
        return 2
    return run.execute()
