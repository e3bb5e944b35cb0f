#!/usr/bin/env bash
# Proves law 8 and what the room's lock must give, under every schedule of two or three threads that has at most
# LOOM_MAX_PREEMPTIONS pre-emptions. Two find nearly everything; three or four are for the night.
#
# Arguments go to `cargo test`: the name of a model, say. With --release, as schedules are many.
set -euo pipefail
cd "$(dirname "$0")/.."

export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom"
# A directory of its own: other flags would rebuild everything.
cargo test --release -p loom-tests --target-dir target/loom "$@"
