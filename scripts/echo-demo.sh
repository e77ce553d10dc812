#!/bin/sh
# Shows tcp-echo: frames, a refusal, a drain, and how fast. Fails when any of it does not hold.
set -eu

name=echo-demo
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
find_tools tcp-echo
PATH="$NETBELT_BIN:$PATH"

dir=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-$name.XXXXXX")
server=''
clean_up_here() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$dir"
}
end_with clean_up_here

# Says what it runs, then starts a server on a free port; its address is in $addr.
serve() {
    printf '$ tcp-echo serve %s &\n' "$*"
    rm -f "$dir/ready"
    tcp-echo serve --listen 127.0.0.1:0 --ready-file "$dir/ready" "$@" >"$dir/out" 2>"$dir/err" &
    server=$!
    eventually test -f "$dir/ready" || fail "the server is not ready: $(cat "$dir/err")"
    addr=$(sed 's/.*"addr":"\([^"]*\)".*/\1/' "$dir/ready")
}
stop() {
    kill "$server"
    wait "$server" || fail "the server did not end well: $(cat "$dir/err")"
    server=''
}
# Says what it runs, then runs it.
say() {
    printf '$ tcp-echo %s\n' "$*"
    tcp-echo "$@"
}
has() { grep -q "$1" "$dir/out"; }

serve --frame lines --max-conns 2 --json
say send "$addr" hello world | tee "$dir/hello"
grep -qx "hello world" "$dir/hello" || fail "hello world did not come back"
say send "$addr" ping --frame lines --count 3 --json
printf '$ seq 100000 | tcp-echo send %s --frame lines --check | tail -n 1\n' "$addr"
seq 100000 | tcp-echo send "$addr" --frame lines --check | tail -n 1

# Two keep their connections; a third is turned away, politely.
mkfifo "$dir/one" "$dir/two"
tcp-echo send "$addr" <"$dir/one" >/dev/null &
tcp-echo send "$addr" <"$dir/two" >/dev/null &
exec 8>"$dir/one" 9>"$dir/two"
connected() { [ "$(grep -c '"event":"connect"' "$dir/out")" -ge 5 ]; }
eventually connected || fail "two clients did not get in"
say send "$addr" knock --frame lines >"$dir/refusal" 2>&1 && fail "a third client got in"
cat "$dir/refusal"
grep -q 'all 2 connections are taken' "$dir/refusal" || fail "the refusal does not say why"
exec 8>&- 9>&-
disconnected() { [ "$(grep -c '"event":"disconnect"' "$dir/out")" -ge 5 ]; }
eventually disconnected || fail "clients that closed are still there"
stop
has '"event":"summary"' || fail "no summary"
tail -n 1 "$dir/out"

serve --greet 'Hello from server' --hangup
say send "$addr" </dev/null | tee "$dir/greeting"
echo
[ "$(cat "$dir/greeting")" = "$ tcp-echo send $addr
Hello from server" ] || fail "not the greeting that was asked for"
stop

if tcp-echo send "$addr" hello 2>"$dir/refused"; then fail "somebody answers where nobody serves"; fi
printf '$ tcp-echo send %s hello\n%s (exit 3)\n' "$addr" "$(cat "$dir/refused")"

serve
say bench "$addr" --duration 2s --warm-up 500ms
stop
