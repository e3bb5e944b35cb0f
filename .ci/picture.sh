#!/usr/bin/env bash
# Proves that pages of runs draw: opened in a browser without a window, neither a small run, nor one that broke a law, nor
# one of 20 clients with 500 events each has an error. Wants Chromium; CHROMIUM names it, else it is looked for.
#
# Leaves the pages in PICTURE_DIR, each with a screenshot. PICTURE_SEED is the seed that is drawn from the command line.
set -euo pipefail
cd "$(dirname "$0")/.."

chromium="${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}"
[[ -n $chromium ]] || { echo "no chromium here: no page is looked at" >&2; exit 0; }

export PICTURE_DIR="${PICTURE_DIR:-$PWD/target/picture}"
mkdir -p "$PICTURE_DIR"
cargo test -q -p sim-tests --test picture
cargo run -q --release -p sim-tests -- --seed "${PICTURE_SEED:-609}" --html "$PICTURE_DIR/seed.html" > /dev/null

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
look() {
    timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
        --window-size=1600,1000 --virtual-time-budget=5000 "$@" 2> /dev/null
}

for name in seed few broken hostile many empty; do
    page="$PICTURE_DIR/$name.html"
    drawn=$(look --dump-dom "file://$page" | grep -o '<html[^>]*>' | head -n 1)
    echo "$name: $drawn, $(wc -c < "$page") bytes"
    [[ $drawn == *'data-ready="lanes='* ]] || { echo "$page was not drawn" >&2; exit 1; }
    [[ $drawn != *data-error* ]] || { echo "$page has an error" >&2; exit 1; }
    [[ $name != many || $drawn == *'"lanes=21;events=10'* ]] || { echo "$page is not of many" >&2; exit 1; }
    look --screenshot="$PICTURE_DIR/$name.png" "file://$page" > /dev/null
done
