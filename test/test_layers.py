# SPDX-License-Identifier: Apache-2.0
"""Packages import only from packages above them, and ROS stays in one of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from repository import LAYERS, ROOT, sources

ROS_MODULES = {"rclpy", "launch", "launch_ros", "ament_index_python"}
ROS_PACKAGES = {"vla_msgs", "vla_nodes"}


def package_of(path: Path) -> str | None:
    """The package a source belongs to, if it belongs to one under src."""
    return path.parts[1] if path.parts[0] == "src" else None


def imported_modules(text: str) -> set[str]:
    """Top-level names of the modules that a Python source imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def violations(package: str, modules: set[str]) -> set[str]:
    """The imported modules that ``package`` may not import."""
    above = set(LAYERS[: LAYERS.index(package) + 1])
    wrong = {name for name in modules if name in LAYERS and name not in above}
    if package != "vla_nodes":
        wrong |= modules & ROS_MODULES
    # The cores know messages by their definitions, not by ROS's generated classes.
    if package not in ROS_PACKAGES:
        wrong |= {name for name in modules if name.endswith("_msgs")}
    return wrong


PYTHON = [path for path in sources(".py", ".pyi") if package_of(path) in LAYERS]
CPP = [path for path in sources(".cpp", ".hpp", ".h", ".cc") if package_of(path) in LAYERS]


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_python_imports_only_from_above(path: Path) -> None:
    wrong = violations(package_of(path) or "", imported_modules((ROOT / path).read_text()))
    assert not wrong, f"{path} imports {sorted(wrong)}"


@pytest.mark.parametrize("path", CPP, ids=str)
def test_cpp_includes_only_from_above(path: Path) -> None:
    package = package_of(path) or ""
    below = set(LAYERS[LAYERS.index(package) + 1 :]) | {"rclcpp"}
    if package == "vla_control":
        below.add("mujoco")
    included = re.findall(r'^\s*#\s*include\s*[<"]([^/>"]+)/', (ROOT / path).read_text(), re.M)
    assert not below & set(included)


def test_plugins_include_messages_and_core_only() -> None:
    plugins = [path for path in sources(".cpp", ".hpp") if package_of(path) == "vla_controllers"]
    assert plugins
    forbidden = set(LAYERS) - {"vla_msgs", "vla_control"}
    for path in plugins:
        included = re.findall(r'^\s*#\s*include\s*[<"]([^/>"]+)/', (ROOT / path).read_text(), re.M)
        assert not forbidden & set(included), path


def test_manifests_depend_only_on_packages_above() -> None:
    for package in LAYERS:
        manifest = ROOT / "src" / package / "package.xml"
        if not manifest.is_file():
            continue
        names = {
            element.text
            for element in ElementTree.parse(manifest).getroot()
            if element.tag.endswith("depend")
        }
        above = set(LAYERS[: LAYERS.index(package)])
        assert not {name for name in names if name in LAYERS} - above, package


def test_manifests_name_every_package_that_is_imported() -> None:
    for package in LAYERS:
        manifest = ROOT / "src" / package / "package.xml"
        if not manifest.is_file():
            continue
        text = manifest.read_text()
        used = {
            name
            for path in PYTHON
            if package_of(path) == package
            for name in imported_modules((ROOT / path).read_text())
            if name in LAYERS and name != package
        }
        assert {name for name in used if f"depend>{name}<" not in text} == set(), package


@pytest.mark.parametrize(
    ("package", "source", "wrong"),
    [
        ("vla_sim", "def f():\n    from vla_policy.spec import x", {"vla_policy"}),
        ("vla_data", "import rclpy.node", {"rclpy"}),
        ("vla_policy", "from vla_msgs.msg import ActionChunk", {"vla_msgs"}),
        ("vla_nodes", "import rclpy, vla_policy, vla_msgs.msg", set()),
        ("vla_policy", "from . import vla_nodes", set()),
    ],
)
def test_a_wrong_import_is_found(package: str, source: str, wrong: set[str]) -> None:
    assert violations(package, imported_modules(source)) == wrong
