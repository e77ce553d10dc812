#!/bin/sh
# How many of a million datagrams of 64 bytes arrive: udp-listen beside socat and nc, all with a receive buffer of 4 MiB
# (as far as net.core.rmem_max allows), all from the same sender, one after the other, in rounds.
# Environment: NETBELT_BIN, where the binaries are (default: target/release); ROUNDS (3); COUNT (1000000)
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${NETBELT_BIN:-$root/target/release}
rounds=${ROUNDS:-3}
count=${COUNT:-1000000}
buffer=4194304
size=64

for tool in udp-listen udp-send; do
    [ -x "$bin/$tool" ] || {
        echo "udp.sh: no $tool in $bin: cargo build --release, or set NETBELT_BIN" >&2
        exit 1
    }
done
dir=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-udp-bench.XXXXXX")
receiver=''
cleanup() {
    status=$?
    trap - EXIT INT TERM
    [ -z "$receiver" ] || kill "$receiver" 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits up to 10 s until the rest of the line succeeds.
eventually() {
    tenths=100
    while ! "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || {
            echo "udp.sh: waited in vain for: $*" >&2
            exit 1
        }
        sleep 0.1
    done
}
ready() { [ -s "$dir/ready" ]; }
bound() { grep -q "$(printf '0100007F:%04X' "$port")" /proc/net/udp; }
bytes() { wc -c <"$dir/got"; }
# A receiver that does not count has had what it gets when its file no longer grows.
still() {
    before=$(bytes)
    sleep 0.5
    [ "$(bytes)" = "$before" ]
}
field() { sed -n "s/.*\"event\":\"summary\".*\"$1\":\([0-9.]*\).*/\1/p" "$2"; }
free_port() {
    port=$((20000 + $$ % 10000))
    while bound; do port=$((port + 1)); done
}

# NAME RATE: sends to $port, at that rate, or as fast as it goes.
blast() {
    if [ "$2" = blast ]; then set -- "$1" "$2" --count "$count"; else set -- "$1" "$2" --count "$count" --rate "$2"; fi
    shift 2
    "$bin/udp-send" "127.0.0.1:$port" --json --size $size "$@" >"$dir/sent" || cat "$dir/sent"
}
# NAME RATE RECEIVED
row() {
    sent=$(field sent "$dir/sent")
    printf '%-28s %9s %10s %10s %10s %9s %8s\n' "$1" "$2" "$(field pps "$dir/sent")" "$sent" "$3" "$((sent - $3))" \
        "$(awk "BEGIN { printf \"%.2f %%\", 100 * ($sent - $3) / $sent }")"
}

# NAME RATE OPTIONS...
netbelt() {
    name=$1 rate=$2
    shift 2
    rm -f "$dir/ready"
    "$bin/udp-listen" --listen 127.0.0.1:0 --ready-file "$dir/ready" --json --rcvbuf $buffer "$@" >"$dir/out" 2>/dev/null &
    receiver=$!
    eventually ready
    port=$(sed 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/' "$dir/ready")
    blast "$name" "$rate"
    kill -INT $receiver
    wait $receiver
    receiver=''
    row "$name" "$rate" "$(field packets "$dir/out")"
    [ ! -f "$dir/lines" ] || [ "$(wc -l <"$dir/lines")" = "$(field packets "$dir/out")" ] || echo "  (and not all are in the file!)"
    rm -f "$dir/lines"
}
# NAME RATE COMMAND...: a receiver that writes what it gets to stdout and is killed in the end.
other() {
    name=$1 rate=$2
    shift 2
    command -v "$1" >/dev/null || {
        printf '%-28s %9s not installed\n' "$name" "$rate"
        return
    }
    : >"$dir/got"
    "$@" >"$dir/got" 2>"$dir/err" </dev/null &
    receiver=$!
    eventually bound
    blast "$name" "$rate"
    eventually still
    kill $receiver 2>/dev/null || echo "  ($name ended early: $(head -n 1 "$dir/err"))"
    wait $receiver 2>/dev/null || true
    receiver=''
    row "$name" "$rate" "$(($(bytes) / size))"
}

echo "$(uname -sr), $(nproc) processors, net.core.rmem_max $(cat /proc/sys/net/core/rmem_max), load $(cut -d ' ' -f 1-3 /proc/loadavg)"
printf '%-28s %9s %10s %10s %10s %9s %8s\n' receiver rate 'rate got' sent received lost ''
for _ in $(seq "$rounds"); do
    for rate in blast 500000; do
        netbelt "udp-listen --quiet" "$rate" --quiet
        free_port
        other socat "$rate" socat -u -b 65536 "UDP4-RECV:$port,bind=127.0.0.1,rcvbuf=$buffer" STDOUT
        free_port
        # -d: it does not read stdin, whose end would end it.
        other nc "$rate" nc -d -u -l -I $buffer 127.0.0.1 "$port"
    done
    netbelt "udp-listen --json --out FILE" 300000 --out "$dir/lines"
done
