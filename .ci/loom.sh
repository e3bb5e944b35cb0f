#!/usr/bin/env bash
# Proves law 8 and what the room's lock must give, under every schedule of two or three threads that has at most as many
# pre-emptions as each model says; prints for each how many executions that were, and how many in all. LOOM_MAX_PREEMPTIONS
# puts another bound in the place of all those: 4 or 5 is for the night.
#
# Arguments go to `cargo test`: the name of a model, say. With --release, as schedules are many; what the room asserts of
# itself is checked all the same.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom"
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
# Built in a third of the time, and hardly slower.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# A directory of its own: other flags would rebuild everything.
cargo test --release -p loom-tests --target-dir target/loom "$@" 2>&1 | awk '
    { print; fflush() }
    match($0, /[0-9]+ executions/) { models++; executions += substr($0, RSTART, RLENGTH) }
    END { printf "%d models, %d executions\n", models, executions }'
