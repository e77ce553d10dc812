#!/bin/sh
# Three nodes and their load on one machine: writes and reads with 1, 64 and 256 clients, several rounds in turn, as a table of
# medians. Then a snapshot under load, and a restart: what the longest write waited, how long the node took, what it holds.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${NETBELT_BIN:-$root/target/release}
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-3}
value=${VALUE:-256}
first_port=${RAFT_PORT:-$((20000 + $$ % 10000))}
for tool in raft-node raft-ctl; do
    [ -x "$bin/$tool" ] || cargo build --manifest-path "$root/Cargo.toml" --release --locked --bins --target-dir "$root/target"
done
command -v jq >/dev/null || {
    echo "raft.sh: jq is not installed" >&2
    exit 6
}

# The logs go where the disk is: a directory in memory would make fdatasync free.
dir=$(mktemp -d "${BENCH_DIR:-$root/target}/raft-bench.XXXXXX")
pids=''
cleanup() {
    status=$?
    trap - EXIT INT TERM
    # shellcheck disable=SC2086  # one word a process
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    # shellcheck disable=SC2086
    [ -z "$pids" ] || wait $pids 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

within() { # TENTHS COMMAND...: waits until it succeeds
    tenths=$1
    shift
    while ! "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}
median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
addr() { echo "127.0.0.1:$((first_port + $1))"; }
nodes=$(addr 1),$(addr 2),$(addr 3)

for number in 1 2 3; do
    peers=''
    for other in 1 2 3; do
        [ "$other" = "$number" ] || peers="$peers --peer n$other=$(addr "$other")"
    done
    # shellcheck disable=SC2086  # one word a peer
    "$bin/raft-node" --id "n$number" --listen "$(addr "$number")" $peers --data-dir "$dir/n$number" >"$dir/n$number.log" 2>&1 &
    pids="$pids $!"
done
within 100 "$bin/raft-ctl" --nodes "$nodes" leader || {
    echo "raft.sh: no leader within 10 s:" >&2
    tail -n 3 "$dir"/n*.log >&2
    exit 6
}

metric() { # NAME: of the leader
    leader=$("$bin/raft-ctl" --nodes "$nodes" leader)
    curl -sf "http://$(addr "${leader#n}")/metrics" | awk -v name="netbelt_raft_$1" '$1 == name { print $2 }'
}

# The loads, as CLIENTS READS; each round runs all of them, so that what else the machine does meets all alike.
loads='1:0 64:0 256:0 1:1 64:1 256:1 64:0.5'
echo "$rounds rounds of $seconds s, values of $value bytes, $(nproc) processors, fdatasync on, data in ${BENCH_DIR:-$root/target}"
round=0
while [ "$round" -lt "$rounds" ]; do
    for load in $loads; do
        syncs=$(metric fsync_seconds_count)
        "$bin/raft-ctl" --nodes "$nodes" bench --json --clients "${load%:*}" --reads "${load#*:}" --value "$value" \
            --warm-up 500ms --duration "${seconds}s" >"$dir/last"
        syncs=$(($(metric fsync_seconds_count) - syncs))
        # The warm-up counts for the syncs and not for the writes: its share is taken off.
        jq -r --argjson syncs "$syncs" --argjson seconds "$seconds" 'select(.event == "summary" and .errors == 0) |
            [.ops_per_s, .write_p50_us // .read_p50_us, .write_p99_us // .read_p99_us, .write_max_us // .read_max_us,
             (if .writes > 0 and $syncs > 0 then .writes / ($syncs * $seconds / ($seconds + 0.5)) else 0 end)] | @tsv' \
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
