# SPDX-License-Identifier: Apache-2.0
"""Runs every check of the workspace and says in one table how it went.

Lint, each package's unit tests and the C++ tests run two at a time; the system tests, which need
the machine's time for themselves, run alone afterwards. Run it inside ``scripts/env.sh`` on a built
workspace; ``make test`` does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "log" / "test"
GROUPS = ("lint", "unit", "cpp", "system")
# Domain ids whose ports lie below those that the system hands out, without the first ones.
FIRST_DOMAIN, DOMAINS = 10, 90

console = Console(highlight=False, width=100 if os.environ.get("CI") else None)


@dataclass(frozen=True)
class Step:
    """One command with its own log; ``junit`` is where it counts its tests, if it does."""

    group: str
    name: str
    command: tuple[str, ...]
    limit: float  # s
    junit: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """How a step ended."""

    step: Step
    code: int
    duration: float  # s
    passed: int
    failed: int
    skipped: Counter[str]
    log: Path

    @property
    def good(self) -> bool:
        """Whether the step did all of its work and found nothing wrong."""
        return self.code == 0 and self.failed == 0


def find_steps(groups: Iterable[str]) -> list[Step]:
    """The steps that the checked-out packages give."""
    steps = []
    if "lint" in groups:
        steps.append(Step("lint", "lint", ("pre-commit", "run", "--all-files"), 900))
    if "unit" in groups:
        for folder in sorted((ROOT / "src").glob("*/test")):
            if any(folder.glob("test_*.py")):
                steps.append(_pytest("unit", folder.parent.name, folder, 900))
    if "cpp" in groups:
        for file in sorted((ROOT / "build").glob("*/CTestTestfile.cmake")):
            name = file.parent.name
            junit = RESULTS / f"cpp-{name}.xml"
            command = (*_ctest(file.parent), "--output-on-failure", "--output-junit", str(junit))
            if _has_tests(file.parent):
                # Two sanitized programs are built by it.
                steps.append(Step("cpp", f"{name} (C++)", command, 1200, junit))
    if "system" in groups:
        steps.append(_pytest("system", "system", ROOT / "test", 1800))
    return steps


def _pytest(group: str, name: str, folder: Path, limit: float) -> Step:
    junit = RESULTS / f"{group}-{name}.xml"
    options = ("-p", "no:cacheprovider", "--color=no", f"--junitxml={junit}")
    command = (sys.executable, "-m", "pytest", str(folder), *options)
    # Two test processes on two cores: more threads in each would only get in each other's way.
    environment = {"OMP_NUM_THREADS": "1"} if group == "unit" else {}
    return Step(group, name, command, limit, junit, environment)


def _ctest(build: Path) -> tuple[str, ...]:
    # Python tests registered with CTest are for `colcon test`; here pytest runs them itself.
    return ("ctest", "--test-dir", str(build), "-LE", "pytest")


def _has_tests(build: Path) -> bool:
    listing = subprocess.run(
        [*_ctest(build), "-N"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "Total Tests: 0" not in listing.stdout


def run(step: Step, index: int) -> Result:
    """Runs one step to its end or its time limit."""
    domain = FIRST_DOMAIN + (os.getpid() + 7 * index) % DOMAINS
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), **step.environment}
    log = RESULTS / f"{step.group}-{step.name.split()[0]}.log"
    if step.junit is not None:
        step.junit.unlink(missing_ok=True)
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(step.limit)
        except subprocess.TimeoutExpired:
            stop(process)
            output.write(f"\nstopped: still running after {step.limit:.0f} s\n")
            code = -1
        except BaseException:
            stop(process)
            raise
    passed, failed, skipped = count(step.junit)
    if code != 0:
        failed = max(failed, 1)
    return Result(step, code, time.monotonic() - started, passed, failed, skipped, log)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a step, giving it the time to end what it started itself."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def count(junit: Path | None) -> tuple[int, int, Counter[str]]:
    """Tests passed and failed, and why others were skipped, as a JUnit file tells."""
    passed, failed, skipped = 0, 0, Counter[str]()
    if junit is None or not junit.is_file():
        return passed, failed, skipped
    for case in ElementTree.parse(junit).iter("testcase"):
        reason = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif reason is not None:
            skipped[reason.get("message", "no reason given")] += 1
        else:
            passed += 1
    return passed, failed, skipped


def report(result: Result) -> None:
    """Prints one line, and what the step said when it went wrong."""
    mark = "[green]ok  [/]" if result.good else "[red]FAIL[/]"
    console.print(f"{mark} {result.step.name:<24} {result.duration:6.1f} s  {tally(result)}")
    if not result.good:
        console.print(escape(result.log.read_text(errors="replace")), soft_wrap=True)


def tally(result: Result) -> str:
    """Counts of a step in words."""
    if result.step.junit is None:
        return ""
    skipped = sum(result.skipped.values())
    words = [f"{result.passed} passed"]
    words += [f"{result.failed} failed"] if result.failed else []
    words += [f"{skipped} skipped"] if skipped else []
    return ", ".join(words)


def main() -> int:
    """Runs the groups named on the command line, all without a name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; default: all")
    groups = parser.parse_args().groups or list(GROUPS)
    if not set(groups) <= set(GROUPS):
        parser.error(f"unknown group in {groups}; choose from {', '.join(GROUPS)}")
    if shutil.which("pre-commit") is None:
        sys.exit("test.py: run it inside scripts/env.sh, or use 'make test'")
    RESULTS.mkdir(parents=True, exist_ok=True)
    steps = find_steps(groups)
    started = time.monotonic()
    console.print(f"{len(steps)} steps; logs in {RESULTS.relative_to(ROOT)}/")

    results = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        together = [step for step in steps if step.group != "system"]
        for result in pool.map(run, together, range(len(together))):
            report(result)
            results.append(result)
    for index, step in enumerate(step for step in steps if step.group == "system"):
        results.append(run(step, len(together) + index))
        report(results[-1])

    table = Table(title=f"{time.monotonic() - started:.0f} s in all", title_justify="left")
    for heading in ("step", "result", "tests", "time"):
        table.add_column(heading, justify="right" if heading == "time" else "left")
    for result in results:
        verdict = "[green]ok[/]" if result.good else "[red]FAIL[/]"
        table.add_row(result.step.name, verdict, tally(result), f"{result.duration:.1f} s")
    console.print(table)
    skipped = sum((result.skipped for result in results), Counter[str]())
    for reason, number in sorted(skipped.items()):
        console.print(f"skipped {number}: {reason}", markup=False)

    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    if set(groups) != {"lint"}:
        print(f"{passed} passed, {failed} failed, {sum(skipped.values())} skipped")
        if passed == 0:
            return 1
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
