#!/usr/bin/env bash
# Shows which lines of `src` the tests never run: for each file its lines, how many are run, and which are not. Tests that stand
# in `src` do not count as lines of it.
#
# Wants `cargo install cargo-llvm-cov`, and llvm-cov of the compiler's LLVM (Debian: package llvm-NN; LLVM_COV and LLVM_PROFDATA name others,
# and those of LLVM 19 read what 22 writes).
set -euo pipefail
cd "$(dirname "$0")/.."

llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
export LLVM_COV="${LLVM_COV:-llvm-cov-$llvm}" LLVM_PROFDATA="${LLVM_PROFDATA:-llvm-profdata-$llvm}"
export CARGO_TARGET_DIR="$PWD/target/coverage"
mkdir -p "$CARGO_TARGET_DIR"
# Counts stand in the files at once, so that those of servers that a test kills are there as well.
export RUSTFLAGS="${RUSTFLAGS:-} -C llvm-args=-runtime-counter-relocation" LLVM_PROFILE_FILE_NAME='unisono-%p-%c.profraw'

cargo llvm-cov --no-report --profile mutants -p unisono --lib --bins --tests
cargo llvm-cov --no-report --profile mutants -p sim-tests --test swarm --test scenarios
cargo llvm-cov report --profile mutants --lcov --ignore-filename-regex '/(sim-tests|tests|src/fuzzing)' \
    --output-path "$CARGO_TARGET_DIR/lcov.info"

awk -F '[:,]' '
    function show(name, lines, hit, missed) { printf "%-24s %6d %6d %7.2f%%  %s\n", name, lines, hit, 100 * hit / lines, missed }
    /^SF:/ {
        file = $2; sub(/.*\/src\//, "src/", file); tests = 1e9; number = 0
        while ((getline line < file) > 0) { number++; if (line ~ /^mod tests \{/) { tests = number; break } }
        close(file)
    }
    /^DA:/ && $2 < tests { lines[file]++; if ($3 > 0) hit[file]++; else missed[file] = missed[file] " " $2 }
    END {
        for (file in lines) { show(file, lines[file], hit[file], missed[file]); all += lines[file]; all_hit += hit[file] }
        show("src", all, all_hit, "")
    }' "$CARGO_TARGET_DIR/lcov.info" | sort
