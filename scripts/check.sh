#!/bin/sh
# What CI runs: format, lints, docs, scripts, then the README's two commands.
set -eu
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --check
step "clippy"
cargo clippy --locked --all-targets -- -D warnings
step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
step "scripts"
if command -v shellcheck >/dev/null; then
    shellcheck -x scripts/*.sh benches/*.sh docs/*.sh tests/data/*.sh .ci/run
else
    echo "shellcheck is not installed: skipped"
fi
step "demo"
scripts/demo.sh
for exercise in basics failover partition persistence disaster; do
    step "exercise: $exercise"
    "scripts/raft-$exercise.sh" </dev/null
done
step "tests"
scripts/test.sh
