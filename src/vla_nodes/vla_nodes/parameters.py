# SPDX-License-Identifier: Apache-2.0
"""One declared parameter schema per node: a frozen dataclass whose fields carry the documentation.

The schema is the dataclass (types, descriptions, ranges, choices), the values come from the
package's ``defaults/<executable>.yaml`` and, over them, from ROS parameter overrides. Nothing is
declared twice. This module needs rclpy only inside :func:`declare`.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

Config = TypeVar("Config")

DEFAULTS = Path(__file__).parent / "defaults"


class ParameterError(ValueError):
    """A parameter is missing, unknown, of the wrong type or out of its range."""


def parameter(
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of a parameter schema.

    Args:
        description: What it means, with its unit.
        low: Smallest value allowed, for numbers.
        high: Largest value allowed, for numbers.
        choices: Values allowed, for strings.
    """
    metadata = {"description": description, "low": low, "high": high, "choices": choices}
    return dataclasses.field(metadata=metadata)


def _types(schema: type) -> dict[str, Any]:
    return typing.get_type_hints(schema)


def _coerce(name: str, kind: Any, value: Any) -> Any:
    """Turns a YAML or ROS value into the field's type; lists become tuples."""
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ParameterError(f"{name} must be a list of {item.__name__}, not {value!r}")
        # rclpy cannot tell the type of an empty list; an empty string stands for nothing in it.
        return tuple(_coerce(name, item, one) for one in value if not (item is str and one == ""))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ParameterError(f"{name} must be of type {kind.__name__}, not {value!r}")
    return value


def _check(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    low, high, choices = metadata["low"], metadata["high"], metadata["choices"]
    values = value if isinstance(value, tuple) else (value,)
    for one in values:
        if choices and one not in choices:
            raise ParameterError(f"{name} is {one!r}; choices: {', '.join(choices)}")
        if isinstance(one, float) and not math.isfinite(one):
            raise ParameterError(f"{name} is {one}; it must be finite")
        if (low is not None and one < low) or (high is not None and one > high):
            raise ParameterError(f"{name} is {one}; valid range: [{low}, {high}]")


def from_mapping(schema: type[Config], values: Mapping[str, Any]) -> Config:
    """Builds a validated, frozen config.

    Args:
        schema: Frozen dataclass made of :func:`parameter` fields.
        values: Every field's value, none more and none less.

    Raises:
        ParameterError: Naming the value and what is valid.
    """
    fields = {field.name: field for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ParameterError(
            f"unknown parameter {', '.join(unknown)}; {schema.__name__} has {', '.join(fields)}"
        )
    missing = sorted(set(fields) - set(values))
    if missing:
        raise ParameterError(f"{schema.__name__} lacks a value for {', '.join(missing)}")
    kinds = _types(schema)
    built = {}
    for name, field in fields.items():
        built[name] = _coerce(name, kinds[name], values[name])
        _check(name, built[name], field.metadata)
    return schema(**built)


def read_parameter_file(path: Path) -> dict[str, Any]:
    """Values under ``/**: ros__parameters:`` of a ROS parameter file."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        values = content["/**"]["ros__parameters"]
    except (TypeError, KeyError):
        raise ParameterError(f"{path}: expected '/**: ros__parameters: ...' at the top") from None
    if not isinstance(values, dict):
        raise ParameterError(f"{path}: ros__parameters must be a mapping")
    return values


def default_file(executable: str) -> Path:
    """The one file that holds the default values of a node of this package."""
    return DEFAULTS / f"{executable}.yaml"


def defaults(executable: str) -> dict[str, Any]:
    """Default values of a node of this package."""
    return read_parameter_file(default_file(executable))


def declare(node: Any, schema: type[Config], executable: str) -> Config:
    """Declares the schema's parameters on a node, read-only, and returns the config.

    Args:
        node: An rclpy node.
        schema: Frozen dataclass made of :func:`parameter` fields.
        executable: Name of the node's file of defaults.

    Raises:
        ParameterError: Naming the value and what is valid.
    """
    from rcl_interfaces.msg import ParameterDescriptor

    values = defaults(executable)
    from_mapping(schema, values)
    kinds = _types(schema)
    known = {"use_sim_time", *kinds}
    unknown = sorted(
        name
        for name in node._parameter_overrides
        if name not in known and not name.startswith(("qos_overrides.", "start_type_description"))
    )
    if unknown:
        raise ParameterError(
            f"unknown parameter {', '.join(unknown)}; {executable} has {', '.join(sorted(kinds))}"
        )
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        metadata = field.metadata
        constraint = ""
        if metadata["choices"]:
            constraint = "one of " + ", ".join(metadata["choices"])
        elif metadata["low"] is not None or metadata["high"] is not None:
            constraint = f"between {metadata['low']} and {metadata['high']}"
        descriptor = ParameterDescriptor(
            description=metadata["description"],
            additional_constraints=constraint,
            read_only=True,
            dynamic_typing=True,  # an integer is a valid value of a float; checked below
        )
        value = values[field.name]
        if isinstance(value, list) and not value:
            value = [""]
        values[field.name] = node.declare_parameter(field.name, value, descriptor).value
    return from_mapping(schema, values)
