#!/usr/bin/env bash
# Searches for broken laws over simulated networks, for as long as one likes: fresh seeds on simnet, then on turmoil, each for
# SIM_MINUTES (10). What breaks is shrunk and kept in target/capsules. Arguments go to the search.
#
# `cargo test -p sim-tests` is the short form, with seeds that are always the same.
set -euo pipefail
cd "$(dirname "$0")/.."

for network in simnet turmoil; do
    cargo run --release -p sim-tests -- --network "$network" --minutes "${SIM_MINUTES:-10}" --shrink "$@"
done
