#!/bin/sh
# Keeps what a build writes to disk, so that later builds can be shown to read it: make.sh BINARIES TARGET
#
# BINARIES is a folder with raft-node and raft-ctl, TARGET a new folder beside this file, named after what changes next. The
# data directory gets all that a node can remember: sets, a delete, a session with its answers, members who came and went, a
# snapshot and a tail of the log behind it. What is asked of it afterwards stands in tests/cli/kept.rs.
set -eu
bin=$(cd "$1" && pwd)
mkdir "$2"
target=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
export RAFT_NODES=127.0.0.1:7911

node() {
    "$bin/raft-node" --id "$1" --listen "127.0.0.1:$2" --data-dir "$work/$1" --ready-file "$work/$1.ready" -q "$3" "$4" &
    while ! [ -e "$work/$1.ready" ]; do :; done
}
ctl() { "$bin/raft-ctl" -q --timeout 20s "$@"; }
# A write in a session: CLIENT:SEQ METHOD PATH BODY
named() {
    curl -sS -X "$2" "http://$RAFT_NODES$3" -H "Idempotency-Key: $1" -d "$4"
    echo
}

node n1 7911 --snapshot-every 1GiB
first=$!
ctl set colour green
ctl set fruit/apple 1
ctl set fruit/pear 2
ctl set empty ''
named "shop-17;since=4:1" POST /kv '{"key":"order","value":"first"}'
named "shop-17;since=4:2" POST /kv '{"key":"order","value":"second","if_value":"none"}' # fails
named "cafe:7" POST /kv '{"key":"tea","value":"grün ☕"}'
ctl members add n2=127.0.0.1:7912
node n2 7912 --join "$RAFT_NODES"
second=$!
until ctl status --json | grep -q '"id":"n2".*"matchIndex"'; do :; done
ctl del fruit/pear
ctl snapshot # all of that
ctl set colour blue
named "shop-17;since=4:3" DELETE /kv/empty ''
ctl members remove n2
ctl set tail 'the last write'
kill "$second"
wait "$second" || :
"$bin/raft-ctl" list --json >"$target/list.jsonl"
ctl snapshot --out "$target/whole.backup"
kill "$first"
wait "$first" || :
cp -R "$work/n1" "$target/n1"
# A segment of the log is as long as it may become: git need not keep its zeros, and the test puts them back.
rm "$target/n1/log/reserve"
perl -0777 -pi -e 's/\0+\z//' "$target"/n1/log/*.log
find "$target" -type f -exec ls -l {} +
