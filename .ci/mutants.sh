#!/usr/bin/env bash
# Proves the tests: changes `src` in two thousand small ways, one at a time, and wants some test to fail for each. For the night:
# two cores need hours. Arguments go to cargo-mutants: `-j 2`, `--shard 0/4`, `--file src/room.rs`.
#
# Each meets the tests that take seconds first; then, if it lives, the exhaustive search, the simulated swarm and the
# end-to-end tests. What was caught is remembered in target/mutants/mutants.out: an interrupted call goes on, and with
# MUTANTS_ANEW=1 all begins again. What is left at the end stands in missed.txt and timeout.txt there; a timeout is not caught
# before somebody has seen why it hangs.
#
# Wants `cargo install cargo-mutants`.
set -euo pipefail
cd "$(dirname "$0")/.."

out=target/mutants
[[ ! ${MUTANTS_ANEW:-} ]] || rm -rf "$out"
mkdir -p "$out"

# A mutant may allocate for ever.
ulimit -v $((8 * 1024 * 1024))

mutate() {
    local status=0
    cargo mutants --iterate --no-times --output "$out" "$@" || status=$?
    # 2 and 3: some were missed, or hung. Anything else is a fault of this call.
    ((status == 0 || status == 2 || status == 3)) || exit "$status"
    return "$status"
}

quick=(-C=--package=unisono -C=--lib -C=--test=room -C=--test=server)
rest=(-C=--package=unisono -C=--package=sim-tests -C=--test=room -C=--test=e2e -C=--test=swarm)

mutate --no-default-features --features=password,tls "${quick[@]}" "$@" -- -- --skip exhaustive || mutate "${rest[@]}" "$@"
