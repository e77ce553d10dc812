#!/bin/sh
# The first exercise: three nodes elect one leader, and every node takes writes and reads. Ends with a verdict.
set -eu
name=raft-basics
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
begin_cluster

step "Three nodes elect a leader"
ask "Three nodes start at the same time, and all are alike. How many of them will lead, and who decides?"
up 3
ctl status
leader=$(ctl leader)
leaders() { for id in $(ids); do field "$id" state; done | grep -c leader; }
agrees() { [ "$(field "$1" leaderId)" = "$leader" ] && [ "$(field "$1" term)" = "$(field "$leader" term)" ]; }
check "exactly one of three leads" [ "$(leaders)" -eq 1 ]
for id in $(ids); do
    check "$id follows or is $leader, in its term" eventually agrees "$id"
done

step "Every node takes a write and serves every read"
ask "$leader leads. What do the other two do with a write, and how soon does one node read what another took?"
for id in $(ids); do
    check "$id takes a write" ctl_at "$id" set "from/$id" "written at $id"
done
for reader in $(ids); do
    for writer in $(ids); do
        check "$reader reads what $writer took" has "$reader" "from/$writer" "written at $writer"
    done
done
check "a key that was never written is not found" not ctl get nothing

step "Compare and set, delete"
ask "Two clients want to change the same key, each only if it is still red. How many of them succeed?"
ctl set colour red
check "cas with the right value changes it" ctl cas colour red green
check "cas with the wrong one does not" not ctl cas colour red blue
check "so it is green everywhere" has n1 colour green
check "and deleted once" ctl del colour
check "but not twice" not ctl del colour

step "A write repeated under its name is carried out once"
ask "An answer got lost on its way, and the client sends its write again, to another node. Does it count twice?"
if command -v curl >/dev/null; then
    once() { curl -sS --fail -H 'Idempotency-Key: basics:1' -d '{"key":"counter","value":"1"}' "http://$(addr_of "$1")/kv"; }
    first=$(once n1)
    second=$(once n2)
    check "the same answer twice: $first" [ "$first" = "$second" ]
else
    echo "skipped: curl is not installed"
fi

step "All nodes hold the same"
ask "Each node has a disk of its own, and nothing is shared. Are there three different stores by now?"
check "keys, values and versions are the same on all three" eventually same_on n1 n2 n3
ctl status
verdict
