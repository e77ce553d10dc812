#!/bin/sh
# What watchers cost: three nodes, writes of 64 clients at the leader, without watchers and with 1,000 at the leader whose
# prefix nobody writes, with 1,000 that receive everything, with 1,000 that read nothing. For each: writes a second beside those
# without watchers in the same round, the longest write and the longest time without any, the leader's processor time for each
# write, and its memory, its own and that of all sockets. Then the largest values there are, to 1,000 that read nothing.
set -eu

name=watch
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-5}
watchers=${WATCHERS:-1000}
large=${LARGE:-40}
find_tools raft-node raft-ctl
for tool in jq cc curl; do
    command -v "$tool" >/dev/null || {
        echo "watch.sh: $tool is not installed" >&2
        exit 6
    }
done

dir=$(mktemp -d "${BENCH_DIR:-$root/target}/watch-bench.XXXXXX")
RAFT_DIR=$dir
RAFT_PORT=${RAFT_PORT:-$((20000 + $$ % 10000))}
export RAFT_DIR RAFT_PORT
crowd=''
clean_up_here() {
    [ -z "$crowd" ] || kill "$crowd" 2>/dev/null || true
    end_cluster
}
end_with clean_up_here
cc -O2 -o "$dir/watchers" "$root/benches/watchers.c"
cluster up >/dev/null
nodes=$(cluster nodes)
# Who leads now: a node that has no time loses that.
find_leader() {
    eventually ctl leader || fail "there is no leader"
    leader=$(ctl leader)
    at=$(addr_of "$leader")
    pid=$(cat "$dir/$leader.pid")
}

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
resident() { awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status"; }
# What the kernel keeps for all TCP sockets, in MiB: it counts pages.
sockets() { awk '/^TCP:/ { print int($NF * 4 / 1024) }' /proc/net/sockstat; }
gather() { # PREFIX read|deaf
    find_leader
    "$dir/watchers" "${at#*:}" "$watchers" "$1" "$2" >"$dir/crowd" &
    crowd=$!
    within 300 grep -q ready "$dir/crowd" || fail "the watchers do not come"
}
dismiss() {
    kill "$crowd" 2>/dev/null || true
    wait "$crowd" 2>/dev/null || true
    crowd=''
}
# The processor time of the leader so far, in hundredths of a second.
used() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
measure() { # NAME
    began=$(used)
    ctl bench --json --clients 64 --reads 0 --value 256 --warm-up 0s --duration "${seconds}s" >"$dir/last" ||
        fail "the load: $(tail -n 1 "$dir/last")"
    jq -r --argjson used $(($(used) - began)) 'select(.event == "summary") |
        [.ops_per_s, .write_max_us / 1000, .write_pause_us / 1000, $used * 10000 / .writes] | @tsv' "$dir/last" >"$dir/row"
    printf '%s\t%s\t%s\n' "$(cat "$dir/row")" "$(resident)" "$(sockets)" >>"$dir/$1.rows"
}
round=0
while [ "$round" -lt "$rounds" ]; do
    find_leader
    measure none
    for kind in 'elsewhere:other/%d/:read' 'everything::read' 'deaf::deaf'; do
        rest=${kind#*:}
        gather "${rest%:*}" "${rest##*:}"
        measure "${kind%%:*}"
        dismiss
    done
    round=$((round + 1))
done
printf '%s rounds of %s s, %s watchers, 64 clients, values of 256 bytes, %s processors\n' "$rounds" "$seconds" "$watchers" "$(nproc)"
printf '%-12s %10s %10s %12s %12s %12s %12s %14s\n' watchers writes/s share 'longest ms' 'pause ms' 'us a write' 'node MiB' 'sockets MiB'
column() { cut -f "$2" "$dir/$1.rows" | median; }
for kind in none elsewhere everything deaf; do
    share=$(paste "$dir/$kind.rows" "$dir/none.rows" | awk -F '\t' '{ print $1 / $7 }' | median)
    printf '%-12s %10.0f %10.2f %12.0f %12.0f %12.1f %12d %14d\n' "$kind" "$(column "$kind" 1)" "$share" \
        "$(column "$kind" 2)" "$(column "$kind" 3)" "$(column "$kind" 4)" "$(column "$kind" 5)" "$(column "$kind" 6)"
done

# Values of 1 MiB, each of whose characters JSON writes as six.
awk 'BEGIN { printf "{\"key\":\"large\",\"value\":\""; for (i = 0; i < 1048576; i++) printf "\\u0000"; print "\"}" }' >"$dir/body"
gather '' deaf
before=$(resident)
longest=0
for number in $(seq "$large"); do
    took=$(curl -s --fail-with-body -m 30 -o "$dir/answer" -w '%{time_total}' -H 'content-type: application/json' --data-binary "@$dir/body" "http://$at/kv") ||
        echo "write $number of 1 MiB took $took s: $(cat "$dir/answer")"
    longest=$(printf '%s\n%s\n' "$longest" "$took" | sort -g | tail -n 1)
done
printf '%s values of 1 MiB of \\u0000 to %s that read nothing: node %d to %d MiB, sockets %d MiB, longest write %.0f ms\n' \
    "$large" "$watchers" "$before" "$(resident)" "$(sockets)" "$(echo "$longest" | awk '{ print $1 * 1000 }')"
