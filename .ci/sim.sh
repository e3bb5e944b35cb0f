#!/usr/bin/env bash
# Proves the laws over simulated networks: the real server and the real client, every delay drawn from a seed.
# Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test -p sim-tests "$@"
