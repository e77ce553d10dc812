#!/bin/sh
# Runs all the tests. Builds what it needs; arguments go to cargo test.
set -eu
cd "$(dirname "$0")/.."
command -v cargo >/dev/null || {
    echo "test.sh: cargo is not there: install a Rust toolchain (https://rustup.rs)" >&2
    exit 1
}
exec cargo test --locked "$@"
