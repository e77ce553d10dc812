#!/bin/sh
# Shows what netbelt does, on real processes, and fails when any of it does not hold. Builds what it needs.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() {
    printf '\ndemo: FAILED: %s\n' "$*" >&2
    exit 1
}

command -v cargo >/dev/null || fail "cargo is not there: install a Rust toolchain (https://rustup.rs)"
step "Building (once; a minute or two)"
cargo build --release --locked --bins --target-dir target

RAFT_DIR=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-demo.XXXXXX")
export RAFT_DIR
# Two demos at once do not meet; a port that is taken is reported by the node that wanted it.
export RAFT_PORT="${RAFT_PORT:-$((20000 + $$ % 10000))}"
cleanup() {
    status=$?
    trap - EXIT INT TERM
    scripts/raft-cluster.sh down >/dev/null 2>&1 || true
    rm -rf "$RAFT_DIR"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
export NETBELT_BIN="$root/target/release"

cluster() { scripts/raft-cluster.sh "$@"; }
ctl() { target/release/raft-ctl --nodes "$nodes" "$@"; }
# Says what it runs, then runs it.
say() {
    printf '$ raft-ctl %s\n' "$*"
    ctl "$@"
}
addr_of() { echo "$nodes" | cut -d , -f "${1#n}"; }
# Waits up to 10 s until the rest of the line succeeds.
eventually() {
    tenths=100
    while ! "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}
wrote() { ctl set "$1" "$2" --timeout 1s; }
leads_other_than() { new=$(ctl leader) && [ "$new" != "$1" ]; }
# All three nodes, each asked for what it has itself, hold the same keys, values and versions.
same_everywhere() {
    for node in n1 n2 n3; do
        target/release/raft-ctl --nodes "$(addr_of $node)" list --stale --json >"$RAFT_DIR/$node.list" || return 1
    done
    [ -s "$RAFT_DIR/n1.list" ] &&
        cmp -s "$RAFT_DIR/n1.list" "$RAFT_DIR/n2.list" && cmp -s "$RAFT_DIR/n1.list" "$RAFT_DIR/n3.list"
}
show_everywhere() {
    eventually same_everywhere || fail "the nodes do not hold the same data"
    for node in n1 n2 n3; do
        printf '%s: ' "$node"
        target/release/raft-ctl --nodes "$(addr_of $node)" list --stale | tr '\t\n' '= '
        echo
    done
}

step "Three raft-node processes elect a leader"
cluster up 3
nodes=$(cluster nodes)
cluster status
first=$(ctl leader)

step "Writes over HTTP, through any node"
for n in 1 2 3; do
    body="{\"key\":\"fruit/$n\",\"value\":\"$(echo 'apple pear plum' | cut -d ' ' -f $n)\"}"
    if command -v curl >/dev/null; then
        echo "\$ curl -d '$body' http://$(addr_of n$n)/kv"
        curl -sS --fail -d "$body" "http://$(addr_of n$n)/kv" || fail "n$n did not take a write"
    else
        value=$(echo 'apple pear plum' | cut -d ' ' -f $n)
        target/release/raft-ctl --nodes "$(addr_of n$n)" set "fruit/$n" "$value" || fail "n$n did not take a write"
    fi
done
say cas fruit/2 pear quince
if ctl cas fruit/2 pear lemon 2>"$RAFT_DIR/cas"; then fail "a compare-and-set with the wrong value took effect"; fi
printf '$ raft-ctl cas fruit/2 pear lemon\n%s (exit 1)\n' "$(cat "$RAFT_DIR/cas")"

step "kill -9 $first, the leader"
cluster kill "$first"
eventually leads_other_than "$first" || fail "no new leader within 10 s"
second=$(ctl leader)
echo "$second leads now"
cluster status

step "The other two go on"
eventually wrote fruit/4 cherry || fail "two of three nodes do not take a write"
say set fruit/5 fig
say get fruit/2
[ "$(ctl get fruit/2)" = quince ] || fail "an acknowledged write is gone"

step "$first comes back and catches up"
cluster restart "$first"
show_everywhere

step "kill -9 all three, start them again"
for node in n1 n2 n3; do cluster kill $node; done
cluster up
[ "$(ctl list fruit/ --keys | wc -l)" -eq 5 ] || fail "acknowledged writes are gone"
show_everywhere

step "How fast, for two seconds each"
say bench --clients 64 --reads 0 --duration 2s
say bench --clients 64 --reads 1 --duration 2s
say bench --clients 1 --reads 0 --duration 2s

step "In the end"
eventually same_everywhere || fail "the nodes do not hold the same data"
cluster status

step "TCP: tcp-echo"
scripts/echo-demo.sh
step "UDP: udp-listen, udp-send"
scripts/udp-demo.sh
step "Commands, N at a time: worker-pool"
scripts/pool-demo.sh
echo
echo "demo: all steps passed"
