# SPDX-License-Identifier: Apache-2.0
"""The command line `vla`. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from vla_nodes.commands.cli_data import add_data_commands
from vla_nodes.configs import TELEOP_INPUTS


def _episodes(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{value} is not within 0 to 100000")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return value


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``module``, whose ``main(options)`` runs it."""
    parser = argparse.ArgumentParser(
        prog="vla",
        description="Runs, records, trains and evaluates vision-language-action policies.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(commands)
    _add_policy_commands(commands)
    _add_tools(commands)
    return parser


def _add_up(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = commands.add_parser("up", help="run a system: nodes over DDS, and episodes of its tasks")
    up.set_defaults(module="vla_nodes.system.up")
    up.add_argument("system", help="name of a system, or its folder (see config/)")
    up.add_argument(
        "--episodes", type=_episodes, default=0, help="episodes to run; 0 = until Ctrl-C"
    )
    up.add_argument("--task", action="append", help="task to run; may be repeated (default: all)")
    up.add_argument("--suite", help="how scenes are drawn: basic, core or another (the system's)")
    up.add_argument("--speed", type=_positive, help="simulated seconds per second (the system's)")
    up.add_argument("--instruction", help="what to do, in words, instead of the task's own")
    up.add_argument("--time-limit", type=_positive, help="s of ROS time per episode")
    up.add_argument("--seed", type=int, default=0, help="first scene, counted in its range")
    up.add_argument(
        "--home", action="store_true", help="move the arm home before each --instruction"
    )
    up.add_argument("--policy", help="checkpoint, instead of the system's own")
    up.add_argument(
        "--failure-detector",
        default="",
        metavar="DIR",
        help="written by `vla failure fit` and `calibrate`; none = nobody watches (default: that "
        "of the checkpoint, if it has one)",
    )
    up.add_argument(
        "--uncalibrated",
        action="store_true",
        help="let the detector run without a calibration, where nothing can alarm",
    )
    up.add_argument("--record", type=Path, metavar="DIR", help="folder for one bag per episode")
    up.add_argument("--report", type=Path, metavar="DIR", help="folder for the report and the log")
    up.add_argument("--console", action="store_true", help="serve a page to watch and take over")
    up.add_argument("--viewer", action="store_true", help="open MuJoCo's viewer")
    up.add_argument("--json", action="store_true", help="print figures as one JSON object")


def _add_policy_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demos = commands.add_parser("demos", help="make demonstrations with the scripted experts")
    demos.set_defaults(module="vla_nodes.commands.demos")
    demos.add_argument("folder", type=Path, help="receives one folder per task")
    demos.add_argument(
        "--suite", default="basic", help="how scenes are drawn, and which tasks (basic)"
    )
    demos.add_argument(
        "--task", action="append", help="may be repeated (default: those of the suite)"
    )
    demos.add_argument("--robot", default="panda", help="simulated robot")
    demos.add_argument("--episodes", type=_count, default=400, help="per task")
    demos.add_argument("--first", type=int, default=0, help="first scene, counted in its range")
    demos.add_argument("--workers", type=_count, default=2, help="processes")

    train = commands.add_parser("train", help="train the default policy on what was demonstrated")
    train.set_defaults(module="vla_nodes.commands.train")
    train.add_argument(
        "demonstrations",
        nargs="?",
        type=Path,
        help="folder written by `vla demos`; may be left out with --dataset",
    )
    train.add_argument("folder", type=Path, help="receives state, log and checkpoint; resumable")
    train.add_argument(
        "--dataset",
        action="append",
        type=Path,
        metavar="DIR",
        help="recorded episodes, written by `vla convert`; may be repeated",
    )
    train.add_argument(
        "--corrections",
        choices=("all", "weighted", "only"),
        default="all",
        help="rows of --dataset: successful episodes and the operator's corrections; the same "
        "with corrections weighing half; corrections alone (all)",
    )
    train.add_argument(
        "--kinematic-scenes",
        type=int,
        default=2500,
        metavar="N",
        help="demonstrated without physics, in each of three sets per task (2500); 0 = none",
    )
    train.add_argument("--samples", type=_count, help="conditions to process in all")
    train.add_argument(
        "--learning-rate",
        type=_positive,
        default=1.0,
        metavar="FACTOR",
        help="times those of a training from nothing; below 1 for a short one with --from (1)",
    )
    train.add_argument("--max-hours", type=_positive, help="wall-clock budget over all runs")
    train.add_argument("--threads", type=_count, help="CPU threads")
    train.add_argument("--device", help="cpu or cuda (default: cuda where present)")
    train.add_argument("--seed", type=int, help="of order, noise and augmentation")
    train.add_argument(
        "--head", choices=("flow", "l1"), default="flow", help="l1: a small head on --from"
    )
    train.add_argument(
        "--from",
        dest="base",
        type=Path,
        metavar="CHECKPOINT",
        help="goes on learning; kept as it is by --head l1 (there by default the committed one)",
    )

    rollouts = commands.add_parser("rollouts", help="run a policy as data for failure detectors")
    rollouts.set_defaults(module="vla_nodes.commands.rollouts")
    rollouts.add_argument("folder", type=Path, help="receives the rollouts; resumable")
    rollouts.add_argument("--policy", type=Path, help="checkpoint (default: the committed one)")
    rollouts.add_argument(
        "--suite", default="core", help="how scenes are drawn, and which tasks (core)"
    )
    rollouts.add_argument(
        "--task", action="append", help="may be repeated (default: those of the suite)"
    )
    rollouts.add_argument("--robot", default="panda", help="simulated robot")
    rollouts.add_argument("--episodes", type=_count, default=400, help="per task (400)")
    rollouts.add_argument("--first", type=int, default=0, help="first scene in the range")
    rollouts.add_argument(
        "--perturbation",
        action="append",
        help="none, lighting, camera, occlusion, bias or jitter; may be repeated (default: all, "
        "one drawn per scene)",
    )
    rollouts.add_argument(
        "--samples", type=_count, default=10, help="chunks per inference in some episodes (10)"
    )
    rollouts.add_argument(
        "--sampled", type=_episodes, default=100, help="so many of them per task (100)"
    )
    rollouts.add_argument("--workers", type=_count, default=2, help="processes")

    failure = commands.add_parser("failure", help="fit, calibrate and judge failure detectors")
    failure_commands = failure.add_subparsers(metavar="COMMAND", required=True)
    fit = failure_commands.add_parser("fit", help="fit a detector on rollouts")
    fit.set_defaults(module="vla_nodes.commands.failure", run="fit")
    fit.add_argument("rollouts", nargs="+", type=Path, help="folders written by `vla rollouts`")
    fit.add_argument("--out", type=Path, required=True, help="folder that receives the detector")
    fit.add_argument("--detector", default="fused", help="see docs/failure.md (fused)")
    fit.add_argument(
        "--setting", action="append", metavar="NAME=VALUE", help="of the detector; may be repeated"
    )
    fit.add_argument("--unseen", action="append", metavar="TASK", help="held out; may be repeated")
    fit.add_argument("--seed", type=int, default=0, help="of split and training")
    calibrate = failure_commands.add_parser("calibrate", help="calibrate a fitted detector")
    calibrate.set_defaults(module="vla_nodes.commands.failure", run="calibrate")
    calibrate.add_argument(
        "rollouts", type=Path, nargs="+", help="folders, all of the policy that will run"
    )
    calibrate.add_argument("detector", type=Path, help="folder written by `vla failure fit`")
    watch = failure_commands.add_parser("watch", help="what the detector of a running system says")
    watch.set_defaults(module="vla_nodes.commands.failure_watch")
    watch.add_argument(
        "--pictures", type=Path, metavar="DIR", help="folder for the pictures of a call for help"
    )
    watch.add_argument("--seconds", type=_positive, help="end after so long (default: Ctrl-C)")
    answer = failure_commands.add_parser("answer", help="what the arm that asks for help shall do")
    answer.set_defaults(module="vla_nodes.commands.failure_answer")
    answer.add_argument(
        "answer",
        choices=("go-on", "give-up"),
        help="go-on: the policy goes on and is judged anew; give-up: the task ends, and what is "
        "latched is released",
    )
    calibrate.add_argument(
        "--alpha", type=_positive, default=0.15, help="false alarms per successful episode (0.15)"
    )

    judge = failure_commands.add_parser("report", help="how detectors do on tasks never seen")
    judge.set_defaults(module="vla_nodes.commands.failure_report")
    judge.add_argument("rollouts", nargs="+", type=Path, help="folders written by `vla rollouts`")
    judge.add_argument("--out", type=Path, required=True, help="folder that receives the report")
    judge.add_argument(
        "--detector", action="append", help="besides ours and the controls; may be repeated (all)"
    )
    judge.add_argument(
        "--alpha", type=_positive, default=0.15, help="false alarms per successful episode (0.15)"
    )
    judge.add_argument("--folds", type=_count, default=4, help="disjoint sets of tasks (4)")
    judge.add_argument("--repeats", type=_count, default=2, help="times they are dealt anew (2)")
    judge.add_argument("--seed", type=int, default=0, help="of folds, splits and training")
    importer = failure_commands.add_parser("import", help="rollouts of other policies")
    importer.set_defaults(module="vla_nodes.commands.failure_import")
    importer.add_argument("layout", choices=("openvla", "openpi"), help="as SAFE's forks write it")
    importer.add_argument("source", type=Path, help="folder with their files")
    importer.add_argument("folder", type=Path, help="receives the rollouts")

    evaluation = commands.add_parser("eval", help="evaluate a policy in lockstep simulation")
    evaluation.set_defaults(module="vla_nodes.commands.eval")
    evaluation.add_argument(
        "--suite",
        action="append",
        help="basic, core, dim, position, lighting, distractors, absent, paraphrase, drop, or one "
        "task; perturbations for all from position on; may be repeated (basic)",
    )
    evaluation.add_argument(
        "--task", action="append", help="may be repeated (default: those of the suite)"
    )
    evaluation.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="folder for JSON and plots; it keeps finished episodes, and the same command goes on "
        "from there",
    )
    evaluation.add_argument(
        "--against",
        type=Path,
        metavar="JSON",
        help="eval.json of another policy on the same scenes: tells the difference of success",
    )
    evaluation.add_argument("--episodes", type=_count, default=200, help="per task")
    evaluation.add_argument(
        "--policy", help="checkpoint, or a server as for policy_node (default: the committed one)"
    )
    evaluation.add_argument("--robot", default="panda", help="simulated robot")
    evaluation.add_argument("--first", type=int, default=0, help="first scene in the range")
    evaluation.add_argument(
        "--purpose",
        default="evaluation",
        choices=("evaluation", "selection"),
        help="range of seeds",
    )
    evaluation.add_argument(
        "--images", default="none", choices=("none", "black"), help="filter of the images"
    )
    evaluation.add_argument(
        "--pairs",
        action="store_true",
        help="run every scene twice with another cube named and report what was chosen",
    )
    evaluation.add_argument(
        "--schedule",
        action="append",
        help="compare with running without delay: asynchronous, synchronous, temporal_ensembling, "
        "rtc, rtc_prefix or vlash; may be repeated",
    )
    evaluation.add_argument(
        "--delay",
        action="append",
        metavar="STEPS[:EPISODES]",
        help="of --schedule, for the first episodes of each task only if told; may be repeated (4)",
    )
    evaluation.add_argument(
        "--with-failure-detector",
        type=Path,
        metavar="DIR",
        help="compare: nobody watches, the calibrated detector of this folder, random alarms",
    )
    evaluation.add_argument(
        "--retries", type=_episodes, default=1, help="of the watched, before they ask (1)"
    )
    evaluation.add_argument(
        "--drift-level",
        type=float,
        default=0.005,
        help="p-value at which features are too strange to be judged; 0 = never (0.005)",
    )
    evaluation.add_argument("--workers", type=_count, default=2, help="processes")
    serve = commands.add_parser("serve", help="serve a policy to robots, from any machine")
    serve.set_defaults(module="vla_nodes.commands.serve")
    serve.add_argument("--policy", type=Path, help="checkpoint (default: the committed one)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8765, help="0 = any that is free (8765)")
    serve.add_argument("--device", default="cpu", help="cpu or cuda")
    serve.add_argument("--threads", type=_count, help="CPU threads per inference")
    serve.add_argument(
        "--compile", action="store_true", help="fused kernels, CUDA graphs; takes minutes to start"
    )
    serve.add_argument(
        "--token-file", type=Path, help="what clients must show (or VLA_POLICY_TOKEN)"
    )
    serve.add_argument("--certificate", type=Path, help="PEM file; with it the server speaks TLS")
    serve.add_argument("--private-key", type=Path, help="PEM file of its key")

    for command in (demos, train, rollouts, fit, calibrate, judge, importer, evaluation):
        command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_tools(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser("doctor", help="check the installation and say what is missing")
    doctor.set_defaults(module="vla_nodes.commands.doctor")
    doctor.add_argument("--json", action="store_true", help="print the checks as one JSON object")
    move = commands.add_parser("move", help="move the arm of a running system to a joint target")
    move.set_defaults(module="vla_nodes.commands.move")
    move.add_argument("target", nargs="?", choices=("home",), help="the arm's home")
    move.add_argument("--joints", nargs="+", metavar="NAME=RAD", help="the others stay")
    move.add_argument("--scaling", type=_positive, help="share of the arm's limits (0.2)")
    move.add_argument("--robot", help="name of the arm, or path of its YAML (default: found)")
    move.add_argument("--json", action="store_true", help="print one JSON object")
    instruct = commands.add_parser("instruct", help="replace the instruction of the task under way")
    instruct.set_defaults(module="vla_nodes.commands.instruct")
    instruct.add_argument("instruction", help="what to do from now on, in words")
    instruct.add_argument(
        "--task", default="", help="name of the task to judge by (default: the operator judges)"
    )
    speed = commands.add_parser("speed", help="have the policy move slower, until the episode ends")
    speed.set_defaults(module="vla_nodes.commands.instruct", instruction=None)
    speed.add_argument("speed", type=float, help="share of its own speed, 0.25 to 1")
    console = commands.add_parser("console", help="a page to watch and take over a running system")
    console.set_defaults(module="vla_nodes.commands.console")
    console.add_argument("--port", type=int, default=8766, help="TCP; 0 = any that is free (8766)")
    console.add_argument(
        "--lan",
        action="store_true",
        help="serve HTTPS to the local network, not this machine alone",
    )
    console.add_argument("--speed", type=_positive, default=0.15, help="m/s of the tool (0.15)")
    console.add_argument("--turning", type=_positive, default=0.6, help="rad/s (0.6)")
    console.add_argument(
        "--max-opening", type=_positive, default=0.08, help="m of the gripper (0.08)"
    )
    console.add_argument(
        "--recordings", type=Path, metavar="DIR", help="folder whose episodes are shown (none)"
    )

    teleop = commands.add_parser("teleop", help="move the arm of a running system by hand")
    teleop.set_defaults(module="vla_nodes.commands.teleop")
    teleop.add_argument(
        "--device",
        choices=("keyboard", *TELEOP_INPUTS),
        default="keyboard",
        help="the keyboard of this terminal, or an input of teleop_node (keyboard)",
    )
    teleop.add_argument("--speed", type=_positive, help="m/s of the tool (keyboard 0.1, else 0.15)")
    teleop.add_argument("--turning", type=_positive, help="rad/s (keyboard 0.5, else 0.6)")
    teleop.add_argument("--max-opening", type=_positive, help="m between the finger pads (0.08)")
    teleop.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another parameter of teleop_node, such as leader_urdf; may be repeated",
    )
    teleop.add_argument(
        "--expert",
        choices=("demonstrates", "corrects"),
        help="instead of the keyboard, in simulation: a scripted expert does every task, or takes "
        "over where the policy does not do what it would do",
    )
    bench = commands.add_parser("bench", help="measure, and compare with what others do")
    bench_commands = bench.add_subparsers(metavar="WHAT", required=True)
    control = bench_commands.add_parser("control", help="the controller, in lockstep simulation")
    control.set_defaults(module="vla_nodes.commands.bench_control")
    control.add_argument(
        "--robot",
        action="append",
        help="name, or path of a YAML; may be repeated (panda, ur5e, ur5)",
    )
    control.add_argument("--quick", action="store_true", help="a few rows on two draws, in seconds")
    control.add_argument(
        "--soak",
        type=_positive,
        metavar="SECONDS",
        help="instead: so long of random chunks, owners, clocks and faults, everything watched",
    )
    control.add_argument("--seed", type=int, default=1, help="of the soak")
    control.add_argument("--out", type=Path, metavar="DIR", help="folder for figures and pictures")
    control.add_argument("--json", action="store_true", help="print one JSON object")
    takeover = bench_commands.add_parser("takeover", help="what jumps when hands change, simulated")
    takeover.set_defaults(module="vla_nodes.commands.bench_takeover")
    takeover.add_argument("--changes", type=_count, default=1000, help="of hands, in all (1000)")
    takeover.add_argument("--live", action="store_true", help="lose devices of running nodes")
    takeover.add_argument("--rounds", type=_count, default=20, help="of all losses, live (20)")
    takeover.add_argument("--robot", default="panda", help="name, or path of a YAML (panda)")
    takeover.add_argument("--seed", type=int, default=0, help="of times, motions and models (0)")
    takeover.add_argument("--json", action="store_true", help="print one JSON object")
    policy = bench_commands.add_parser("policy", help="inference, and messages to and from it")
    policy.set_defaults(module="vla_nodes.commands.bench_policy")
    policy.add_argument("--rounds", type=_count, default=50, help="chunks of each (50)")
    policy.add_argument("--quick", action="store_true", help="two views, nothing compiled")
    policy.add_argument("--json", action="store_true", help="print one JSON object")
    transport = bench_commands.add_parser("transport", help="a policy server on loopback")
    transport.set_defaults(module="vla_nodes.commands.bench_transport")
    transport.add_argument("--rounds", type=_count, default=200, help="round trips (200)")
    transport.add_argument("--json", action="store_true", help="print one JSON object")
    failure = bench_commands.add_parser("failure", help="what failure detectors cost per inference")
    failure.set_defaults(module="vla_nodes.commands.bench_failure")
    failure.add_argument("--rounds", type=_count, default=2000, help="steps per detector (2000)")
    failure.add_argument("--json", action="store_true", help="print one JSON object")
    record = bench_commands.add_parser("record", help="recorder: load, crashes; conversion")
    record.set_defaults(module="vla_nodes.commands.bench_record")
    record.add_argument("--seconds", type=_positive, default=60.0, help="of load (60)")
    record.add_argument("--cameras", type=_count, default=4, help="of noise, 30 Hz (4)")
    record.add_argument("--width", type=_count, default=640, help="columns of their images (640)")
    instead = record.add_mutually_exclusive_group()
    instead.add_argument(
        "--crash", action="store_true", help="instead: kill writers, fill disks, read what is left"
    )
    instead.add_argument(
        "--convert", action="store_true", help="instead: convert episodes of two cameras"
    )
    record.add_argument("--kills", type=_episodes, default=200, help="with --crash (200)")
    record.add_argument("--full-disks", type=_episodes, default=20, help="with --crash (20)")
    record.add_argument("--seed", type=int, default=0, help="of the moments and sizes")
    record.add_argument(
        "--folder", type=Path, metavar="DIR", help="on the disk to measure (default: temporary)"
    )
    record.add_argument("--json", action="store_true", help="print one JSON object")
    page = bench_commands.add_parser("console", help="from a key to the arm, in a real browser")
    page.set_defaults(module="vla_nodes.commands.bench_console")
    page.add_argument("--presses", type=_count, default=100, help="keys (100)")
    page.add_argument(
        "--losses", type=_count, default=20, help="pages closed, killed and frozen, each (20)"
    )
    page.add_argument("--seconds", type=_positive, default=15.0, help="of pictures (15)")
    page.add_argument("--json", action="store_true", help="print one JSON object")
    bag = commands.add_parser("bag", help="look at recorded episodes, check and repair them")
    bag_commands = bag.add_subparsers(metavar="COMMAND", required=True)
    for name, text in (
        ("info", "what a bag holds"),
        ("check", "read everything in a bag and tell by the exit code whether it is sound"),
        ("repair", "make a sound bag, next to it, of what a damaged or unfinished one holds"),
    ):
        command = bag_commands.add_parser(name, help=text)
        command.set_defaults(module="vla_nodes.commands.bag", run=name)
        command.add_argument("bag", nargs="+", type=Path, help="folder of a bag, or an MCAP file")
        command.add_argument("--json", action="store_true", help="print one JSON object")
    add_data_commands(commands, bag_commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the command. Returns the exit status."""
    options = make_parser().parse_args(arguments)
    # Whoever started this may ignore SIGINT, as a shell does for what a script runs in the
    # background, and Python would take that over: then nothing stops cleanly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return int(import_module(options.module).main(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
