# SPDX-License-Identifier: Apache-2.0
"""Message definitions: found, concatenated with what they depend on, and hashed.

Definitions come from ``share/<package>/msg/*.msg`` below every install prefix and, where nothing
is installed yet, from the workspace's sources. rclpy is not needed.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

if TYPE_CHECKING:
    from rosbags.interfaces.typing import Typesdict
    from rosbags.typesys.store import Typestore

SEPARATOR = "=" * 80


class DefinitionError(ValueError):
    """A message type's definition is missing or cannot be parsed."""


def default_search_paths() -> list[Path]:
    """Lists the folders that hold message packages, first hit wins.

    Returns:
        ``share`` below every prefix of ``AMENT_PREFIX_PATH`` and below this Python's own
        prefix, then the source folders of the workspace this file lies in, if it does.
    """
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix]
    paths = [Path(prefix) / "share" for prefix in [*prefixes, sys.prefix]]
    for folder in Path(__file__).resolve().parents:
        if (folder / "src" / "vla_msgs").is_dir():
            paths += [folder / "src", folder / "compat"]
            break
    return [path for path in dict.fromkeys(paths) if path.is_dir()]


def _split(type_name: str) -> tuple[str, str]:
    parts = type_name.split("/")
    if len(parts) != 3 or parts[1] != "msg" or not all(parts):
        raise DefinitionError(f"{type_name!r} is not a message type such as std_msgs/msg/String")
    return parts[0], parts[2]


class Definitions:
    """The message definitions below some folders.

    Args:
        search_paths: Folders that hold ``<package>/msg/<Name>.msg``; default
            `default_search_paths`.
    """

    def __init__(self, search_paths: Sequence[Path] | None = None) -> None:
        self.search_paths = (
            default_search_paths() if search_paths is None else [Path(p) for p in search_paths]
        )
        self._files: dict[str, Path] = {}
        self._texts: dict[str, str] = {}
        self._dependencies: dict[str, list[str]] = {}

    def file(self, type_name: str) -> Path:
        """Finds the ``.msg`` file of a type.

        Args:
            type_name: As in ROS 2, ``<package>/msg/<Name>``.

        Returns:
            Its path.

        Raises:
            DefinitionError: If there is none; names the folders that were searched.
        """
        if type_name not in self._files:
            package, name = _split(type_name)
            for folder in self.search_paths:
                path = folder / package / "msg" / f"{name}.msg"
                if path.is_file():
                    self._files[type_name] = path
                    break
            else:
                searched = ", ".join(str(path) for path in self.search_paths) or "no folder"
                raise DefinitionError(f"no definition of {type_name}; searched {searched}")
        return self._files[type_name]

    def text(self, type_name: str) -> str:
        """Reads a type's own ``.msg`` text, without its dependencies."""
        if type_name not in self._texts:
            self._texts[type_name] = self.file(type_name).read_text(encoding="utf-8")
        return self._texts[type_name]

    def dependencies(self, type_name: str) -> list[str]:
        """Lists the types a type is built from, at any depth, each once, in order of use.

        Args:
            type_name: ``<package>/msg/<Name>``.

        Returns:
            Their names, without `type_name`.

        Raises:
            DefinitionError: If one of them is not found or cannot be parsed.
        """
        found: dict[str, None] = {}
        queue = [type_name]
        while queue:
            for child in self._children(queue.pop(0)):
                if child not in found and child != type_name:
                    found[child] = None
                    queue.append(child)
        return list(found)

    def _children(self, type_name: str) -> list[str]:
        if type_name not in self._dependencies:
            try:
                types = get_types_from_msg(self.text(type_name), type_name)
            except Exception as error:
                raise DefinitionError(f"cannot parse {self.file(type_name)}: {error}") from error
            self._dependencies[type_name] = list(dict.fromkeys(_named(types, type_name)))
        return self._dependencies[type_name]

    def full_text(self, type_name: str) -> str:
        """Concatenates a definition with all it depends on, as MCAP's ``ros2msg`` wants it.

        Args:
            type_name: ``<package>/msg/<Name>``.

        Returns:
            The type's text, then per dependency a separator line, ``MSG: <package>/<Name>`` and
            its text.

        Raises:
            DefinitionError: If anything is missing.
        """
        parts = [self.text(type_name)]
        for child in self.dependencies(type_name):
            package, name = _split(child)
            parts.append(f"{SEPARATOR}\nMSG: {package}/{name}\n{self.text(child)}")
        return "\n".join(parts)

    def typestore(self, type_names: Iterable[str]) -> Typestore:
        """Builds a typestore that reads and writes some types.

        Args:
            type_names: The types; what they depend on comes along.

        Returns:
            The typestore.

        Raises:
            DefinitionError: If anything is missing.
        """
        types: Typesdict = {}
        for type_name in type_names:
            for each in [type_name, *self.dependencies(type_name)]:
                types.update(get_types_from_msg(self.text(each), each))
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        return store

    def type_hash(self, type_name: str) -> str:
        """Gives the RIHS01 hash of a type.

        The hash that rosidl has installed beside the definition counts; without one it is
        computed.

        Args:
            type_name: ``<package>/msg/<Name>``.

        Returns:
            ``RIHS01_`` and 64 hexadecimal digits.

        Raises:
            DefinitionError: If the type is not known.
        """
        description = self.file(type_name).with_suffix(".json")
        if description.is_file():
            for entry in json.loads(description.read_text(encoding="utf-8"))["type_hashes"]:
                if entry["type_name"] == type_name:
                    return str(entry["hash_string"])
        return self.typestore([type_name]).hash_rihs01(type_name)


def typestore_from_texts(texts: dict[str, str]) -> Typestore:
    """Builds a typestore from concatenated definitions, as a bag holds them.

    To parse them takes a tenth of a second, and bags of one system hold the same.

    Args:
        texts: Type name to its ``ros2msg`` text.

    Returns:
        The typestore, which those share who ask for the same.

    Raises:
        DefinitionError: If a text cannot be parsed.
    """
    return _shared_typestore(tuple(sorted(texts.items())))


@functools.lru_cache(maxsize=8)
def _shared_typestore(texts: tuple[tuple[str, str], ...]) -> Typestore:
    types: Typesdict = {}
    for type_name, text in texts:
        try:
            types.update(get_types_from_msg(text, type_name))
        except Exception as error:
            raise DefinitionError(f"cannot parse the definition of {type_name}: {error}") from error
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


def _named(types: Typesdict, type_name: str) -> Iterable[str]:
    for _, description in types[type_name][1]:
        inner = description
        while isinstance(inner[1], tuple) and isinstance(inner[1][0], tuple):
            inner = inner[1][0]
        if isinstance(inner[1], str):
            yield inner[1]
