#!/bin/sh
# Shows what udp-listen and udp-send do, on real sockets, and fails when any of it does not hold.
# Environment: NETBELT_BIN, where the binaries are (default: target/release, built when missing)
set -eu

name=udp-demo
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
find_tools udp-listen udp-send
bin=$NETBELT_BIN

dir=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-$name.XXXXXX")
cd "$dir"
listener=''
clean_up_here() {
    [ -z "$listener" ] || kill "$listener" 2>/dev/null || true
    rm -rf "$dir"
}
end_with clean_up_here

ready_or_gone() { [ -f ready ] || ! kill -0 "$listener" 2>/dev/null; }
# Starts a listener on a free port, with these arguments; its output goes to the file out.
listen() {
    printf '$ udp-listen --listen 127.0.0.1:0%s &\n' "$(printf ' %s' "$@")"
    rm -f ready
    "$bin/udp-listen" --listen 127.0.0.1:0 --ready-file ready "$@" >out 2>err &
    listener=$!
    eventually ready_or_gone
    [ -f ready ] || fail "udp-listen did not start: $(cat err)"
    addr=$(sed 's/.*"addr":"\([^"]*\)".*/\1/' ready)
    head -n 1 out
}
# Waits for the listener to end by itself, and shows what it said after its ready line.
ended() {
    wait "$listener" || fail "udp-listen failed: $(cat err)"
    listener=''
    sed 1d out
}
# Says what it runs, then runs it.
send() {
    printf '$ udp-send %s%s\n' "$addr" "$(printf ' %s' "$@")"
    "$bin/udp-send" "$addr" "$@"
}
holds() { grep -q -e "$1" out || fail "no '$1' in: $(cat out)"; }
# A number in the last line of the file out.
number() { sed -n "\$s/.*\"$1\":\([0-9.]*\).*/\1/p" out; }

listen --count 3
send hello
send --hex fffe00
printf "\$ printf 'two\\\\033[31mlines\\\\n' | udp-send %s\n" "$addr"
printf 'two\033[31mlines\n' | "$bin/udp-send" "$addr"
ended
holds '^Received 5 bytes from 127\.0\.0\.1:[0-9]*: hello$'
holds ': hex fffe00$'
holds ': two\\x1b\[31mlines$'
holds '^3 packets, 21 bytes, 0 dropped'
echo

listen --json --count 1
send hello
ended
holds '"event":"packet","ts":"[-0-9]*T[0-9:]*\.[0-9]\{9\}Z","from":"127\.0\.0\.1:[0-9]*"'
[ "$(number packets)" = 1 ] || fail "the summary does not count one packet"
echo

listen --reply echo --count 1
send hello --wait-reply 5s | tee answer
[ "$(tail -n 1 answer)" = hello ] || fail "the echo is not what was sent"
ended
holds '1 answered, 0 not'
echo "\$ udp-send $addr hello"
status=0
"$bin/udp-send" "$addr" hello 2>err || status=$?
cat err
[ "$status" = 3 ] || fail "exit $status, not 3, although nothing listens there any more"
echo

listen --json --quiet --count 20000 --duration 8s
send --size 64 --count 20000 --rate 20000
ended
[ "$(number packets)-$(number dropped)" = 20000-0 ] || fail "datagrams were lost: $(tail -n 1 out)"
echo
echo "udp-demo: all steps passed"
