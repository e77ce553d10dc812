#!/bin/sh
# tcp-echo beside its peers, in one run: the same load generator against each server, in turn, several rounds.
# A peer that is not installed is reported as absent. Peers: socat, sockperf, and a bare epoll loop (built with cc).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${NETBELT_BIN:-$root/target/release}
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-2}
idle=${IDLE:-10000}
[ -x "$bin/tcp-echo" ] || cargo build --manifest-path "$root/Cargo.toml" --release --locked --bins --target-dir "$root/target"
command -v jq >/dev/null || {
    echo "echo.sh: jq is not installed" >&2
    exit 6
}

dir=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-bench.XXXXXX")
pids=''
cleanup() {
    status=$?
    trap - EXIT INT TERM
    # shellcheck disable=SC2086  # one word a process
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

port=$((20000 + $$ % 10000))
peers=tcp-echo
# Waits up to 5 s until something listens there.
up() {
    tries=50
    while ! "$bin/tcp-echo" send "127.0.0.1:$1" x --timeout 1s >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}
start() { # NAME COMMAND...: the server NAME runs, its port in $dir/NAME.port
    name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 &
    pids="$pids $!"
    echo $! >"$dir/$name.pid"
    echo "$port" >"$dir/$name.port"
    up "$port" || {
        echo "$name does not serve:" >&2
        cat "$dir/$name.log" >&2
        exit 6
    }
    port=$((port + 1))
}
start tcp-echo "$bin/tcp-echo" serve --listen "127.0.0.1:$port" --max-conns 20000
if command -v socat >/dev/null; then
    start socat socat "TCP-LISTEN:$port,fork,reuseaddr,bind=127.0.0.1,nodelay,backlog=4096" PIPE
    peers="$peers socat"
else
    echo "socat: absent"
fi
if command -v cc >/dev/null; then
    cc -O2 -pthread -o "$dir/epoll-echo" "$root/benches/epoll-echo.c"
    start epoll "$dir/epoll-echo" "$port"
    peers="$peers epoll"
else
    echo "bare epoll loop: absent (no cc)"
fi

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
# NAME FIELD ARGUMENTS...: all rounds of all peers, in turn; a line a peer with the median and its ratio.
compare() {
    title=$1 field=$2
    shift 2
    round=0
    for peer in $peers; do : >"$dir/$peer.results"; done
    while [ "$round" -lt "$rounds" ]; do
        for peer in $peers; do
            "$bin/tcp-echo" bench "127.0.0.1:$(cat "$dir/$peer.port")" --duration "${seconds}s" --warm-up 500ms --json "$@" \
                >"$dir/last" || true
            jq "if .event == \"summary\" and .errors == 0 then .$field else empty end" "$dir/last" >>"$dir/$peer.results"
        done
        round=$((round + 1))
    done
    own=$(median <"$dir/tcp-echo.results")
    for peer in $peers; do
        result=$(median <"$dir/$peer.results")
        if [ -z "$result" ]; then
            printf '%-34s %-9s %12s\n' "$title" "$peer" "failed"
        else
            printf '%-34s %-9s %12.1f   tcp-echo: %.2fx\n' "$title" "$peer" "$result" "$(echo "$own $result" | awk '{ print $1 / $2 }')"
        fi
    done
}
compare '50 connections, 64 B, messages/s' msgs_per_s --conns 50 --size 64
compare '50 connections, 64 KiB, MB/s' mb_per_s --conns 50 --size 64KiB
compare 'connect, echo, close, a second' msgs_per_s --conns 8 --reconnect
compare '1 connection, 64 B, p50 us' p50_us --conns 1 --size 64

if command -v sockperf >/dev/null; then
    sockperf server --tcp -i 127.0.0.1 -p "$port" >"$dir/sockperf.log" 2>&1 &
    pids="$pids $!"
    : >"$dir/sockperf.results"
    : >"$dir/own.results"
    round=0
    while [ "$round" -lt "$rounds" ]; do
        # Half a round trip, in microseconds, unless told --full-rtt.
        sockperf ping-pong --tcp -i 127.0.0.1 -p "$port" -m 64 -t "$seconds" --full-rtt 2>&1 |
            sed 's/\x1b\[[0-9;]*m//g' | awk '/percentile 50/ { print $NF }' >>"$dir/sockperf.results"
        "$bin/tcp-echo" bench "127.0.0.1:$(cat "$dir/tcp-echo.port")" --conns 1 --duration "${seconds}s" --warm-up 500ms --json |
            jq .p50_us >>"$dir/own.results"
        round=$((round + 1))
    done
    theirs=$(median <"$dir/sockperf.results") own=$(median <"$dir/own.results")
    printf '%-34s %-9s %12.1f   tcp-echo: %.2fx (%.1f)\n' '1 connection, 64 B, p50 us' sockperf "$theirs" \
        "$(echo "$own $theirs" | awk '{ print $1 / $2 }')" "$own"
else
    echo "sockperf: absent"
fi

# Two loaders, each with half: one file a connection, and one for its timer.
for half in 1 2; do
    "$bin/tcp-echo" bench "127.0.0.1:$(cat "$dir/tcp-echo.port")" --conns "$((idle / 2))" --rate 1 --warm-up 0s --duration 10s \
        --json >"$dir/idle.$half" &
    loader=$!
    pids="$pids $loader"
done
most=0
while kill -0 "$loader" 2>/dev/null; do
    open=$(find "/proc/$(cat "$dir/tcp-echo.pid")/fd" -type l 2>/dev/null | wc -l)
    [ "$open" -le "$most" ] || {
        most=$open
        resident=$(awk '/VmRSS/ { print $2 / 1024 }' "/proc/$(cat "$dir/tcp-echo.pid")/status")
    }
    sleep 0.5
done
printf '%-34s %-9s %12.1f\n' "$most files open, resident MB" tcp-echo "$resident"
