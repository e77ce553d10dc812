#!/bin/sh
# The fifth exercise: two of three nodes lose their disks. The third one is backed up without a leader, made the only member of a
# new cluster, and joined by new nodes: every acknowledged key is there. Ends with a verdict.
set -eu
name=raft-disaster
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
begin_cluster

node() { "$NETBELT_BIN/raft-node" --id "$survivor" --data-dir "$RAFT_DIR/$survivor" "$@"; }
dump() { "$NETBELT_BIN/raft-node" dump --data-dir "$1" --out "$RAFT_DIR/$2"; }
others() { ids | grep -vx "$survivor"; }
# Every acknowledged key, with its value and version, as the survivor has it.
keys() { ctl_at "$survivor" list key/ --json; }
files() { find "$1" -type f -exec cksum {} + | sort; }
voters() { [ "$(ctl_at "$survivor" members --json | grep -o '"voter":true' | grep -c .)" -eq "$1" ]; }

up 3
survivor=$(ctl leader)

step "Keys, each of which was acknowledged"
for number in $(seq 1 30); do ctl set "key/$number" "value $number" >/dev/null; done
ctl del key/30 >/dev/null
before=$(keys)
check "the leader, $survivor, has all 29" [ "$(ctl_at "$survivor" list key/ --keys | wc -l)" -eq 29 ]

step "Two of three lose their disks"
for id in $(others); do
    cluster kill "$id"
    cluster wipe "$id"
done
check "a write fails" not ctl_at "$survivor" set doubtful "nobody was told" --timeout 1s
check "there is no leader any more" eventually not ctl leader --timeout 1s
check "$survivor is backed up as it is" ctl_at "$survivor" snapshot --stale --out "$RAFT_DIR/stale.backup"
check "a plain backup wants a leader" not ctl_at "$survivor" snapshot --out "$RAFT_DIR/plain.backup" --timeout 1s
check "its directory is not touched while it runs" not node --force-new-cluster

step "A backup from its directory"
cluster kill "$survivor"
files "$RAFT_DIR/$survivor" >"$RAFT_DIR/.before"
check "raft-node dump" dump "$RAFT_DIR/$survivor" dump.backup
files "$RAFT_DIR/$survivor" >"$RAFT_DIR/.after"
check "changes nothing" cmp "$RAFT_DIR/.before" "$RAFT_DIR/.after"

step "$survivor goes on, in a new cluster"
node --force-new-cluster
kept=$(echo "$RAFT_DIR/$survivor"/before-*)
check "the old data is kept" dump "$kept" again.backup
check "and makes the same backup" cmp "$RAFT_DIR/dump.backup" "$RAFT_DIR/again.backup"
cluster restart "$survivor"
check "$survivor leads alone" eventually ctl_at "$survivor" leader
check "every acknowledged key is there, with its value and version" [ "$(keys)" = "$before" ]
check "nobody forces it twice" not node --force-new-cluster

step "The others join with empty directories"
for id in $(others); do cluster join "$id" "$survivor"; done
check "three of them vote" eventually voters 3
check "all three have the same" eventually same_on n1 n2 n3

step "The new cluster is like any other"
cluster kill "$survivor"
check "the two others elect a leader" eventually leads_other_than "$survivor"
cluster restart "$survivor"
check "all three have the same" eventually same_on n1 n2 n3
check "every acknowledged key is there, with its value and version" [ "$(keys)" = "$before" ]
check "the backup from the directory can be restored" ctl restore --force "$RAFT_DIR/dump.backup"
check "and has every key and value" [ "$(keys | sed 's/,"version".*//')" = "$(echo "$before" | sed 's/,"version".*//')" ]
verdict
