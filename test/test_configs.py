# SPDX-License-Identifier: Apache-2.0
"""Every configuration, launch and package file parses and agrees with its place."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from repository import ROOT, files, sources


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
