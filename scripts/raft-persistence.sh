#!/bin/sh
# The fourth exercise: what was acknowledged survives kill -9 of every node at once, again and again, from the log and from a
# snapshot. Ends with a verdict.
set -eu
name=raft-persistence
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
begin_cluster

up 3
state() { ctl list --json; }
kill_all_and_start() {
    for id in $(ids); do cluster kill "$id"; done
    cluster up >/dev/null
}

step "Keys, kill -9 of all three, keys"
ask "All three nodes are killed in the same moment. Which of the acknowledged writes are gone?"
for number in $(seq 1 20); do ctl set "key/$number" "value $number" >/dev/null; done
ctl del key/20 >/dev/null
before=$(state)
kill_all_and_start
check "19 keys are there" [ "$(ctl list key/ --keys | wc -l)" -eq 19 ]
check "with their values and versions" [ "$(state)" = "$before" ]
check "on all three" eventually same_on n1 n2 n3

step "A snapshot takes the place of the log"
ask "A log that only grows fills every disk. What may be thrown away, and what does a node start from then?"
for id in $(ids); do check "$id writes a snapshot" ctl_at "$id" snapshot; done
check "its log begins later" [ "$(field n1 snapshotIndex)" -gt 0 ]
ctl set after snapshot
before=$(state)
kill_all_and_start
check "snapshot and log make the same keys, values and versions" [ "$(state)" = "$before" ]
check "on all three" eventually same_on n1 n2 n3

step "kill -9 while writes go on"
ask "And with writes on their way? Of a write that was not acknowledged, what may be found afterwards?"
for round in 1 2 3 4 5; do
    ctl bench --clients 8 --reads 0 --duration 1s --keys 100 --quiet >/dev/null 2>&1 &
    load=$!
    acknowledged=0
    while ctl set "round/$round" "$acknowledged" --timeout 1s >/dev/null 2>&1 && [ "$acknowledged" -lt 20 ]; do
        acknowledged=$((acknowledged + 1))
    done
    for id in $(ids); do cluster kill "$id"; done
    wait "$load" || true
    cluster up >/dev/null
    check "round $round: the last acknowledged write of $acknowledged is there" [ "$(ctl get "round/$round")" -ge $((acknowledged - 1)) ]
done

step "A backup, and a new cluster from it"
ask "The directories of all three are removed. What else must there be, and can it have been made while writes went on?"
ctl snapshot --out "$RAFT_DIR/backup"
before=$(ctl list | sort)
cluster down
mv "$RAFT_DIR/backup" "$RAFT_DIR/.backup"
rm -rf "$RAFT_DIR"/n* "$RAFT_DIR/cluster"
cluster up 3
ctl restore "$RAFT_DIR/.backup"
check "the new cluster has every key and value" [ "$(ctl list | sort)" = "$before" ]
verdict
