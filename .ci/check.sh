#!/usr/bin/env bash
# Proves that the tree is in order (format, lints, documents), that the library stands without the binary, and that the
# tests pass. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all -- --check
cargo fmt --all --manifest-path fuzz/Cargo.toml -- --check
headless=$(find . -name target -prune -o -name '*.rs' -type f -print0 | xargs -0 awk 'FNR == 1 && !/^\/\/!/ { print FILENAME }')
[[ -z $headless ]] || { echo "no opening paragraph: $headless" >&2; exit 1; }

cargo clippy --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
cargo check --no-default-features --lib
cargo test "$@"
