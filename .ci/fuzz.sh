#!/usr/bin/env bash
# Looks for bytes that break a law or part what ships from a slow truth: each target over its corpus, then FUZZ_SECONDS of
# search in it (60). The smoke of a minute is FUZZ_SECONDS=8; the long run, which goes on from what it found before, 1200.
#
#   fuzz.sh [TARGET...] [-libFuzzer=ARGUMENTS]      all targets, or these
#
# Wants nightly and `cargo install cargo-fuzz`. What a search finds interesting stays in fuzz/target; a failure stays in
# fuzz/artifacts, with the command that repeats it printed. What is worth keeping is made small by `cargo fuzz cmin` and
# put into fuzz/corpus by hand. There is no sanitizer, as there is no unsafe code of ours for one to watch, and it would take
# nine tenths of the speed.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=() arguments=()
for argument; do
    if [[ $argument == -* ]]; then arguments+=("$argument"); else targets+=("$argument"); fi
done
((${#targets[@]})) || mapfile -t targets < <(cargo +nightly fuzz list)

cargo +nightly fuzz build --sanitizer none
row='%-10s %12s %12s %12s %8s %8s %8s\n'
# shellcheck disable=SC2059
summary=$(printf "$row" TARGET EXECUTIONS 'A SECOND' 'CPU SECONDS' COV FT 'RSS MB')
TIMEFORMAT='cpu: %U'
for target in "${targets[@]}"; do
    found=fuzz/target/corpus/$target log=fuzz/target/$target.log
    mkdir -p "$found"
    { time cargo +nightly fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
        -dict="fuzz/dictionaries/$target.dict" -max_total_time="${FUZZ_SECONDS:-60}" -max_len=4096 -timeout=20 \
        -print_final_stats=1 "${arguments[@]}"; } 2>&1 | tee "$log"
    number() { sed -n "s/.*$1 *\([0-9]*\).*/\1/p" "$log" | tail -n 1; }
    # shellcheck disable=SC2059
    summary+=$'\n'$(printf "$row" "$target" "$(number stat::number_of_executed_units:)" \
        "$(number stat::average_exec_per_sec:)" "$(number cpu:)" "$(number ' cov:')" "$(number ' ft:')" \
        "$(number stat::peak_rss_mb:)")
done
echo "$summary"
