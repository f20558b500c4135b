# SPDX-License-Identifier: Apache-2.0
"""Every configuration, launch and package file parses and agrees with its place."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from repository import ROOT, files, sources

from vla_data import Definitions


@pytest.mark.parametrize("path", sources(".yaml", ".yml"), ids=str)
def test_yaml_parses(path: Path) -> None:
    assert yaml.safe_load((ROOT / path).read_text()) is not None


@pytest.mark.parametrize("path", sources(".json"), ids=str)
def test_json_parses(path: Path) -> None:
    json.loads((ROOT / path).read_text())


@pytest.mark.parametrize("path", sources(".xml", ".xacro"), ids=str)
def test_xml_parses(path: Path) -> None:
    ElementTree.parse(ROOT / path)


@pytest.mark.parametrize("path", [p for p in files() if p.name.endswith(".launch.py")], ids=str)
def test_launch_files_offer_what_launch_looks_for(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions


@pytest.mark.parametrize("path", [p for p in files() if p.name == "package.xml"], ids=str)
def test_manifests_are_complete(path: Path) -> None:
    root = ElementTree.parse(ROOT / path).getroot()
    assert root.get("format") == "3"
    for tag in ("name", "version", "description", "maintainer", "license"):
        assert root.findtext(tag), f"{path}: no {tag}"
    build_type = root.findtext("export/build_type")
    folder = (ROOT / path).parent
    if build_type == "ament_python":
        assert (folder / "setup.py").is_file()
        assert (folder / "resource" / str(root.findtext("name"))).is_file()
    else:
        assert build_type == "ament_cmake"
        assert (folder / "CMakeLists.txt").is_file()


@pytest.mark.parametrize("path", sources(".sh"), ids=str)
def test_shell_scripts_parse(path: Path) -> None:
    subprocess.run(["bash", "-n", str(ROOT / path)], check=True, timeout=10)


def test_every_system_says_what_runs() -> None:
    systems = [path for path in files() if path.parts[0] == "config" and path.name == "system.yaml"]
    assert systems
    for path in systems:
        assert yaml.safe_load((ROOT / path).read_text())["nodes"], path


def test_the_lock_pins_every_package() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line and not line.startswith("#"):
            assert "==" in line, line
            assert "://" not in line, line


def published() -> dict[str, str]:
    """Topics that the nodes declare, a camera's name left open, to the name of their type."""
    found = {"/rosout": "rcl_interfaces/msg/Log"}
    for path in (ROOT / "src" / "vla_nodes" / "vla_nodes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            call = ast.unparse(node.func).rpartition(".")[2]
            if call not in ("create", "create_publisher", "create_lifecycle_publisher"):
                continue
            name = node.args[1]
            parts = name.values if isinstance(name, ast.JoinedStr) else [name]
            topic = "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)
            if topic != "*":
                found[f"/{topic.lstrip('/')}"] = ast.unparse(node.args[0])
    return found


def layout_paths(value: object) -> set[str]:
    """Topics, with a field behind a dot, that a layout of Foxglove names."""
    if isinstance(value, dict):
        inner = [layout_paths(each) for each in value.values()]
        named = {key for key in value if key.startswith("/")}
        return named.union(*inner)
    if isinstance(value, list):
        return set().union(*map(layout_paths, value))
    return {value} if isinstance(value, str) and value.startswith("/") else set()


def test_the_layout_for_foxglove_names_what_is_published() -> None:
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text())
    topics, paths = published(), layout_paths(layout)
    kinds = {f"vla_msgs/msg/{topics[path.split('.')[0]]}" for path in paths if "." in path}
    known = Definitions().typestore(kinds).fielddefs
    for path in paths:
        topic, *fields = path.split(".")
        assert any(fnmatch(topic, name) for name in topics), f"{topic} is not published"
        if not fields:
            continue
        kind = f"vla_msgs/msg/{topics[topic]}"
        for field in fields:
            described = dict(known[kind][1])
            name = field.split("[")[0]
            assert name in described, f"{path}: {kind} has no {name}"
            assert ("[" in field) == (int(described[name][0]) in (3, 4)), path
            kind = str(described[name][1])
    shown = {path.split(".")[0] for path in paths}
    needed = {"/controller/state", "/failure/status", "/control_owner", "/episode/events"}
    cameras = {"/cameras/scene/image_raw", "/cameras/wrist/image_raw"}
    assert needed | cameras <= shown
    assert {"/failure/status.score", "/failure/status.threshold"} <= paths
    placed = set(re.findall(r"[\w]+![\w]+", json.dumps(layout["layout"])))
    assert placed == set(layout["configById"])
