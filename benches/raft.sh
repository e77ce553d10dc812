#!/bin/sh
# Three nodes and their load on one machine: writes and reads with 1, 64 and 256 clients, several rounds in turn, as a table of
# medians. Then a snapshot under load, and a restart: what the longest write waited, how long the node took, what it holds.
set -eu

name=raft.sh
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
rounds=${ROUNDS:-3}
fill=${FILL:-30s}
keys=${KEYS:-1000000}
seconds=${SECONDS_EACH:-3}
value=${VALUE:-256}
first_port=${RAFT_PORT:-$((20000 + $$ % 10000))}
find_tools raft-node raft-ctl
bin=$NETBELT_BIN
command -v jq >/dev/null || {
    echo "raft.sh: jq is not installed" >&2
    exit 6
}

# The logs go where the disk is: a directory in memory would make fdatasync free.
dir=$(mktemp -d "${BENCH_DIR:-$root/target}/raft-bench.XXXXXX")
pids=''
clean_up_here() {
    # shellcheck disable=SC2086  # one word a process
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    # shellcheck disable=SC2086
    [ -z "$pids" ] || wait $pids 2>/dev/null || true
    rm -rf "$dir"
}
end_with clean_up_here

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
addr() { echo "127.0.0.1:$((first_port + $1))"; }
nodes=$(addr 1),$(addr 2),$(addr 3)

start() { # NUMBER
    peers=''
    for other in 1 2 3; do
        [ "$other" = "$1" ] || peers="$peers --peer n$other=$(addr "$other")"
    done
    # shellcheck disable=SC2086  # one word a peer
    "$bin/raft-node" --id "n$1" --listen "$(addr "$1")" $peers --data-dir "$dir/n$1" >>"$dir/n$1.log" 2>&1 &
    echo $! >"$dir/n$1.pid"
    pids="$pids $!"
}
for number in 1 2 3; do start "$number"; done
within 100 "$bin/raft-ctl" --nodes "$nodes" leader || {
    echo "raft.sh: no leader within 10 s:" >&2
    tail -n 3 "$dir"/n*.log >&2
    exit 6
}

leader() { "$bin/raft-ctl" --nodes "$nodes" leader | tr -d n; }
metric() { # NUMBER NAME
    curl -sf "http://$(addr "$1")/metrics" | awk -v name="netbelt_raft_$2" '$1 == name { print $2 }'
}

# The loads, as CLIENTS READS; each round runs all of them, so that what else the machine does meets all alike.
loads='1:0 64:0 256:0 1:1 64:1 256:1 64:0.5'
echo "$rounds rounds of $seconds s, values of $value bytes, $(nproc) processors, fdatasync on, data in ${BENCH_DIR:-$root/target}"
round=0
while [ "$round" -lt "$rounds" ]; do
    for load in $loads; do
        syncs=$(metric "$(leader)" fsync_seconds_count)
        "$bin/raft-ctl" --nodes "$nodes" bench --json --clients "${load%:*}" --reads "${load#*:}" --value "$value" \
            --warm-up 0s --duration "${seconds}s" >"$dir/last"
        syncs=$(($(metric "$(leader)" fsync_seconds_count) - syncs))
        jq -r --argjson syncs "$syncs" 'select(.event == "summary" and .errors == 0) |
            [.ops_per_s, .write_p50_us // .read_p50_us, .write_p99_us // .read_p99_us, .write_max_us // .read_max_us,
             (if .writes > 0 and $syncs > 0 then (.writes / $syncs) else 0 end)] | @tsv' \
            "$dir/last" >>"$dir/raft.$load"
    done
    round=$((round + 1))
done

column() { cut -f "$2" "$dir/raft.$1" | median; }
printf '%-22s %10s %10s %10s %10s %14s\n' 'clients, load' 'a second' 'p50 us' 'p99 us' 'max us' 'writes a sync'
for load in $loads; do
    if [ ! -s "$dir/raft.$load" ]; then
        printf '%-22s %10s\n' "${load%:*}, reads ${load#*:}" failed
        continue
    fi
    case ${load#*:} in
    0) kind=writes ;;
    1) kind=reads ;;
    *) kind='half reads' ;;
    esac
    printf '%-22s %10.0f %10.0f %10.0f %10.0f %14.1f\n' "${load%:*}, $kind" "$(column "$load" 1)" "$(column "$load" 2)" \
        "$(column "$load" 3)" "$(column "$load" 4)" "$(column "$load" 5)"
done

# Many keys, with a snapshot each time 64 MiB have been written; then a follower starts anew on what it has.
"$bin/raft-ctl" --nodes "$nodes" bench --json --clients 256 --reads 0 --value "$value" --keys "$keys" --warm-up 0s \
    --duration "$fill" >"$dir/last"
first=$(leader)
held=$(metric "$first" keys)
jq -r --arg keys "$held" --arg snapshot "$(metric "$first" snapshot_index)" \
    '"filled with \($keys) keys, \(.writes_per_s) writes/s, latest snapshot at \($snapshot); p99 \(.write_p99_us / 1000 | round) ms, longest write \(.write_max_us / 1000 | round) ms, longest time without any \(.write_pause_us / 1000 | round) ms"' "$dir/last"
follower=$((first % 3 + 1))
commit=$(metric "$first" commit_index)
pid=$(cat "$dir/n$follower.pid")
kill "$pid"
wait "$pid" 2>/dev/null || true
caught_up() { [ "$(metric "$follower" applied_index)" -ge "$commit" ]; }
began=$(date +%s%N)
start "$follower"
within 600 caught_up || {
    echo "raft.sh: n$follower has not caught up within a minute; its log ends:" >&2
    tail -n 3 "$dir/n$follower.log" >&2
    exit 1
}
resident=$(awk '/VmRSS/ { print $2 * 1024 }' "/proc/$(cat "$dir/n$follower.pid")/status")
awk -v ms="$((($(date +%s%N) - began) / 1000000))" -v resident="$resident" -v keys="$held" -v value="$value" \
    'BEGIN { data = keys * (value + 12); printf "started anew in %.1f s, %.0f MB resident, %.2f times the data\n", ms / 1000, resident / 1e6, resident / data }'
