#!/usr/bin/env bash
# Looks for bytes that break a law: each target over its corpus, then FUZZ_SECONDS of search. Arguments go to libFuzzer.
#
# Wants nightly and `cargo install cargo-fuzz`. What a search finds interesting stays in fuzz/target; a failure stays in
# fuzz/artifacts, with the command that repeats it printed. Keep by hand, in fuzz/corpus, what is worth keeping. There is no
# sanitizer, as there is no unsafe code of ours for one to watch, and it would take nine tenths of the speed.
set -euo pipefail
cd "$(dirname "$0")/.."

for target in $(cargo +nightly fuzz list); do
    found="fuzz/target/corpus/$target"
    mkdir -p "$found"
    cargo +nightly fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -print_final_stats=1 "$@"
done
