# SPDX-License-Identifier: Apache-2.0
"""`vla convert`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vla_data.contract import ContractError, ObservationContract
from vla_data.episode_reader import EpisodeReader, EpisodeReadError
from vla_data.lerobot.conversion import Conversion, ConversionError, convert
from vla_data.observation import ObservationError
from vla_data.rows import recorded_cameras
from vla_nodes.commands import figures
from vla_nodes.commands.progress import progress_bar
from vla_nodes.configs import PolicyConfig
from vla_nodes.inference.setup import robot_contract
from vla_nodes.parameters import from_mapping
from vla_nodes.system.description import POLICY, SystemDescriptionError, load_system


def main(options: argparse.Namespace) -> int:
    """Converts bags to a dataset."""
    try:
        bags = find_bags(options.bag)
        contract = find_contract(bags, options.system, options.contract)
        with progress_bar() as progress:
            bar = progress.add_task("episodes", total=len(bags))
            made = convert(
                bags,
                options.out,
                contract,
                rate=options.rate,
                codec=options.codec,
                workers=options.workers,
                progress=lambda done, total, name: progress.update(
                    bar, completed=done, total=total, description=name
                ),
            )
    except (ContractError, ConversionError, EpisodeReadError, ObservationError) as error:
        print(f"vla convert: {error}", file=sys.stderr)
        return 1
    except (SystemDescriptionError, OSError) as error:
        print(f"vla convert: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"vla convert: stopped; finished episodes are kept in {options.out}.part, and the same "
            "command goes on from there",
            file=sys.stderr,
        )
        return 130
    for bag, why in made.skipped.items():
        print(f"vla convert: skipped {bag}: {why}", file=sys.stderr)
    if options.json:
        print(figures.report(numbers(made), settings(made, options), skipped=made.skipped))
    else:
        for name, value in numbers(made).items():
            print(f"{name}: {value:g}")
        print(f"dataset: {made.folder}")
    return 0


def numbers(made: Conversion) -> dict[str, float]:
    """Figures of a conversion."""
    found: dict[str, float] = {
        "episodes_count": len(made.episodes),
        "skipped_count": len(made.skipped),
        "rows_count": sum(episode["length"] for episode in made.episodes),
        "repeated_rows_count": sum(episode["repeated_rows"] for episode in made.episodes),
        "rate_hz": made.rate,
        "converted_s": made.converted_s,
        "elapsed_s": made.elapsed_s,
    }
    if made.converted_s > 0.0:
        found["conversion_over_real_time_ratio"] = made.converted_s / made.elapsed_s
    return found


def settings(made: Conversion, options: argparse.Namespace) -> dict[str, object]:
    """What was asked for."""
    return {"codec": options.codec, "workers": options.workers, "dataset": str(made.folder)}


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Bags, and those in folders of bags.

    Raises:
        EpisodeReadError: A path holds none.
    """
    found: list[Path] = []
    for path in paths:
        here = (
            [path]
            if any(path.glob("*.mcap"))
            else sorted({p.parent for p in path.glob("*/*.mcap")})
        )
        if not here:
            raise EpisodeReadError(f"{path} is neither a bag nor a folder of bags")
        found += here
    return found


def find_contract(
    bags: Sequence[Path], system: str | None, contract: Path | None
) -> ObservationContract:
    """The contract of the robot in some bags.

    Args:
        bags: Of one robot.
        system: Name of the system that they were recorded in; None = as they say.
        contract: YAML file of a contract, instead of the system's.

    Raises:
        ContractError, EpisodeReadError or SystemDescriptionError: If there is none.
    """
    if contract is not None:
        return ObservationContract.from_yaml(contract)
    problem: EpisodeReadError | ObservationError | None = None
    for bag in bags:
        try:
            with EpisodeReader(bag) as reader:
                name = system or reader.info.source
                if not name:
                    raise EpisodeReadError(
                        f"{bag} does not say in which system it was recorded; name that with "
                        "--system, or a contract with --contract"
                    )
                found = load_system(name)
                entry = found.entry(POLICY)
                if entry is None:
                    raise EpisodeReadError(f"the system {name} has no {POLICY}")
                config = from_mapping(PolicyConfig, entry.values())
                cameras = recorded_cameras(reader, config.image_tolerance)
                return robot_contract(found.name, config, cameras)
        except (EpisodeReadError, ObservationError) as error:
            problem = problem or error  # the next one may be whole
    raise problem or EpisodeReadError("no bags")
