#!/bin/sh
# Installs the tools with their completions and man pages: scripts/install.sh [--prefix DIR]
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
prefix=/usr/local
usage() { echo "usage: scripts/install.sh [--prefix DIR]    (default: /usr/local)"; }
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        [ $# -ge 2 ] || {
            usage >&2
            exit 2
        }
        prefix=$2
        shift 2
        ;;
    --prefix=*)
        prefix=${1#--prefix=}
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done
case $prefix in
/*) ;;
*) prefix=$PWD/$prefix ;;
esac

if [ -z "${NETBELT_BIN:-}" ]; then
    command -v cargo >/dev/null || {
        echo "install.sh: cargo is not there: install a Rust toolchain (https://rustup.rs), or set NETBELT_BIN" >&2
        exit 1
    }
    cargo build --manifest-path "$root/Cargo.toml" --target-dir "$root/target" --release --locked --bins
fi
bin=${NETBELT_BIN:-$root/target/release}
mkdir -p "$prefix/bin"
for source in "$root"/src/bin/*.rs; do
    tool=$(basename "$source" .rs)
    install -m 755 "$bin/$tool" "$prefix/bin/$tool"
    "$prefix/bin/$tool" --generate "$prefix/share"
    echo "$prefix/bin/$tool"
done
echo "completions and man pages are below $prefix/share"
