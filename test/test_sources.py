# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for every file of the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from repository import ROOT, files, sources

SOURCE_SUFFIXES = (
    *(".py", ".pyi", ".cpp", ".hpp", ".h"),
    *(".sh", ".yaml", ".xml", ".xacro", ".cmake"),
)
TEXT_SUFFIXES = (
    *SOURCE_SUFFIXES,
    *(".md", ".toml", ".txt", ".in", ".lock", ".msg", ".srv", ".action"),
)

DANGEROUS = {
    "unpickling": r"\bpickle\b|allow_pickle\s*=\s*True|weights_only\s*=\s*False|\bdill\b",
    "evaluating text": r"(?<![\w.])(eval|exec)\(",
    "a shell": r"shell\s*=\s*True|os\.system\(",
    # zip(strict=False) is about lengths, not about weights.
    "weights loaded loosely": r"^(?!.*\bzip\().*\bstrict\s*=\s*False",
    "unsafe YAML": r"yaml\.(load|unsafe_load|full_load)\(",
}
# The reader of other people's files that refuses what would run, and its test, which writes some.
MAY_UNPICKLE = {
    Path("src/vla_failure/vla_failure/importing/restricted.py"),
    Path("src/vla_failure/test/test_importing.py"),
}
PLACES = {
    # Package clients know their registries; what else is linked are papers and standards.
    "a link": r"https?://(?!arxiv\.org/|doi\.org/|(www\.)?(apache|ros|w3|eprosima)\.(org|com)"
    r"|download\.ros\.org/schema|docs\.ros\.org/|github\.com/|localhost|127\.0\.0\.1)",
    "a package registry": r"index-url|find-links|--registry",
    "a folder of one machine": r"(?<![\w.$}{/])/(?:root|work|home|tmp/\w)/\w",
}
UNFINISHED = r"\b(TODO|FIXME|XXX)\b|NotImplementedError"
BUDGET = 30e6  # bytes of all committed binaries together


def lines_matching(pattern: str, text: str) -> list[str]:
    """Lines of ``text`` in which ``pattern`` is found."""
    return [line.strip() for line in text.splitlines() if re.search(pattern, line)]


def others(paths: list[Path]) -> list[Path]:
    """``paths`` without this file, which spells out what it forbids."""
    return [path for path in paths if path != Path(__file__).relative_to(ROOT)]


def report(patterns: dict[str, str], paths: list[Path]) -> list[str]:
    """One line per find."""
    return [
        f"{path}: {what}: {line}"
        for path in paths
        for what, pattern in patterns.items()
        for line in lines_matching(pattern, (ROOT / path).read_text())
    ]


@pytest.mark.parametrize("path", sources(*SOURCE_SUFFIXES), ids=str)
def test_every_source_names_its_licence(path: Path) -> None:
    head = (ROOT / path).read_text().splitlines()[:4]
    if not head:
        pytest.fail(f"{path} is empty")
    named = any("SPDX-License-Identifier: Apache-2.0" in line for line in head)
    # A manifest has a tag for it.
    assert named or "<license>Apache-2.0</license>" in (ROOT / path).read_text(), path


def test_no_dangerous_calls() -> None:
    paths = others(sources(".py"))
    assert set(paths) >= MAY_UNPICKLE
    assert report(DANGEROUS, [path for path in paths if path not in MAY_UNPICKLE]) == []
    # Those few may unpickle, and nothing else.
    rest = {what: pattern for what, pattern in DANGEROUS.items() if what != "unpickling"}
    assert report(rest, sorted(MAY_UNPICKLE)) == []


def test_no_names_of_places() -> None:
    assert report(PLACES, others(sources(*TEXT_SUFFIXES))) == []


def test_nothing_is_left_unfinished() -> None:
    paths = others(sources(".py", ".cpp", ".hpp", ".sh", ".md"))
    assert report({"unfinished": UNFINISHED}, paths) == []


@pytest.mark.parametrize(
    ("patterns", "line"),
    [
        (DANGEROUS, "data = pickle.loads(message)"),
        (DANGEROUS, "x = eval(text)"),
        (DANGEROUS, "model.load_state_dict(weights, strict=False)"),
        (DANGEROUS, "subprocess.run(text, shell=True)"),
        (PLACES, "see https://example.net/page"),
        (PLACES, "cp /root/results ."),
        (PLACES, "pip install --index-url https://mirror.example"),
    ],
)
def test_a_find_is_found(patterns: dict[str, str], line: str) -> None:
    assert any(lines_matching(pattern, line) for pattern in patterns.values())


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()",
        "zip(a, b, strict=False)",
        "self.eval(x)",
        "$HOME/work",
        "https://arxiv.org/abs/1",
    ],
)
def test_innocent_lines_pass(line: str) -> None:
    patterns = {**DANGEROUS, **PLACES}
    assert not any(lines_matching(pattern, line) for pattern in patterns.values())


def test_committed_binaries_stay_small() -> None:
    total = 0
    for path in files():
        data = (ROOT / path).read_bytes()
        if b"\0" in data[:8000]:
            total += len(data)
    assert total <= BUDGET, f"{total / 1e6:.1f} MB"


def test_nothing_built_is_tracked() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-ci", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert tracked.stdout == ""
