#!/bin/sh
# Shows what netbelt does, on real processes, and fails when any of it does not hold. Builds what it needs.
set -eu

name=demo
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

[ -n "${NETBELT_BIN:-}" ] || step "Building (once; a minute or two)"
begin_cluster

# Says what it runs, then runs it.
say() {
    printf '$ raft-ctl %s\n' "$*"
    ctl "$@"
}
wrote() { ctl set "$1" "$2" --timeout 1s; }
show_everywhere() {
    eventually same_on n1 n2 n3 || fail "the nodes do not hold the same data"
    for node in n1 n2 n3; do
        printf '%s: ' "$node"
        ctl_at "$node" list --stale | tr '\t\n' '= '
        echo
    done
}

step "Three raft-node processes elect a leader"
up 3
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
        ctl_at n$n set "fruit/$n" "$value" || fail "n$n did not take a write"
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
eventually same_on n1 n2 n3 || fail "the nodes do not hold the same data"
cluster status

step "TCP: tcp-echo"
"$root/scripts/echo-demo.sh"
step "UDP: udp-listen, udp-send"
"$root/scripts/udp-demo.sh"
step "Commands, N at a time: worker-pool"
"$root/scripts/pool-demo.sh"
echo
echo "demo: all steps passed"
