#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy on vla_control, with the compile commands of the last build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=build/vla_control
if [ ! -f "$build/compile_commands.json" ]; then
  echo "tidy: $build/compile_commands.json is missing; run 'make build'" >&2
  exit 1
fi
find src/vla_control/src -name '*.cpp' -print0 |
  xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet
