#!/usr/bin/env bash
# Proves that the tree is in order (format, lints, documents), that the library stands without the binary, and that the
# tests pass. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all -- --check
cargo fmt --all --manifest-path fuzz/Cargo.toml -- --check
headless=$(find . -name target -prune -o -name '*.rs' -type f -print0 | xargs -0 awk 'FNR == 1 && !/^\/\/!/ { print FILENAME }')
[[ -z $headless ]] || { echo "no opening paragraph: $headless" >&2; exit 1; }
# Names of metrics look like those of tests, and have a test of their own.
for name in $(grep -ohE '`[a-z0-9]+(_[a-z0-9]+){3,}`' README.md docs/*.md | tr -d '`' | grep -v '^unisono_' | sort -u); do
    git grep -qE "fn $name\\b" -- '*.rs' || { echo "no test is called $name, but a document has it" >&2; exit 1; }
done

.ci/package
cargo clippy --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
cargo check --no-default-features --lib
cargo test "$@"
