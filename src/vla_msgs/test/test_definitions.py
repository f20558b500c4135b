# SPDX-License-Identifier: Apache-2.0
"""Every field of every message says what it holds, in which unit and in which frame."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]
DEFINITIONS = sorted(
    path for folder in ("msg", "srv", "action") for path in (PACKAGE / folder).iterdir()
)
FIELD = re.compile(
    r"^(?P<type>[A-Za-z][\w/]*)(?P<array>\[[^\]]*\])?\s+(?P<name>[a-z]\w*)\s*(?P<rest>.*)$"
)
CONSTANT = re.compile(r"^\w+\s+[A-Z][A-Z0-9_]*\s*=")

UNIT = re.compile(r"\b(s|m|rad|N|Nm|ns|dimensionless)\b")


def fields(text: str) -> list[tuple[str, str, str, str]]:
    """``(type, array, name, comment)`` of every field of a definition."""
    found = []
    for line in text.splitlines():
        code, _, comment = line.partition("#")
        code = code.strip()
        if not code or set(code) == {"-"} or CONSTANT.match(code):
            continue
        match = FIELD.match(code)
        assert match, f"neither a field nor a constant: {line!r}"
        found.append((match["type"], match["array"] or "", match["name"], comment.strip()))
    return found


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_definition_starts_with_what_it_is(path: Path) -> None:
    assert re.match(r"# \S+ .*\S", path.read_text().splitlines()[0])


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_field_has_a_comment(path: Path) -> None:
    bare = [name for _, _, name, comment in fields(path.read_text()) if len(comment) < 4]
    assert not bare, f"{path.name}: no comment on {', '.join(bare)}"


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_physical_field_names_its_unit(path: Path) -> None:
    physical = re.compile(r"^(float32|float64|geometry_msgs/\w+)$")
    bare = [
        name
        for type_, _, name, comment in fields(path.read_text())
        if physical.match(type_) and not UNIT.search(comment)
    ]
    assert not bare, f"{path.name}: no unit on {', '.join(bare)}"


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_header_says_stamp_and_frame(path: Path) -> None:
    for type_, _, name, comment in fields(path.read_text()):
        if type_ == "std_msgs/Header":
            assert {"stamp:", "frame_id"} <= set(re.findall(r"stamp:|frame_id", comment)), name


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_geometry_names_its_frame(path: Path) -> None:
    for type_, _, name, comment in fields(path.read_text()):
        if type_.startswith("geometry_msgs/"):
            frame = re.search(r"frame|axes", comment) or re.search(r"_in_\w+$", name)
            assert frame, f"{path.name}: {name}"


def enumerations(text: str) -> list[dict[str, int]]:
    """Constants of a definition, one dictionary per block of neighbouring lines."""
    blocks: list[dict[str, int]] = [{}]
    for line in text.splitlines():
        match = re.match(r"uint8 ([A-Z][A-Z0-9_]*) = (\d+)", line)
        if match:
            blocks[-1][match[1]] = int(match[2])
        elif blocks[-1]:
            blocks.append({})
    return [block for block in blocks if block]


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_enumerations_count_from_zero_without_gaps(path: Path) -> None:
    for block in enumerations(path.read_text()):
        assert list(block.values()) == list(range(len(block))), f"{path.name}: {block}"


def test_the_reader_finds_fields_and_misses() -> None:
    text = "uint8 A = 1\nfloat64 bare\nfloat64[3] good   # m, in base axes\n---\nbool done # yes"
    assert [(name, comment) for _, _, name, comment in fields(text)] == [
        ("bare", ""),
        ("good", "m, in base axes"),
        ("done", "yes"),
    ]
