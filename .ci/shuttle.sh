#!/usr/bin/env bash
# Searches random schedules of a crowd in one small room, which is too much for loom, for lost wakes and lost lines.
#
# UNISONO_SEED is the first seed, UNISONO_SEEDS how many; a failure prints the seed that has it. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="${RUSTFLAGS:-} --cfg shuttle"
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# A directory of its own: other flags would rebuild everything.
cargo test --release -p shuttle-tests --target-dir target/shuttle "$@"
