#!/bin/sh
# The second exercise: leaders are killed or stopped, one after the other; the cluster goes on and loses nothing. Ends with a
# verdict.
set -eu
name=raft-failover
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
begin_cluster

ask "A leader dies at once, without a word to anybody. How long are there no writes, and what of those before?"
up 3
ctl set before 0
wrote() { ctl set "$1" "$2" --timeout 1s; }

for round in 1 2 3; do
    leader=$(ctl leader)
    step "Round $round: kill -9 $leader, the leader"
    begun=$(now_ms)
    cluster kill "$leader"
    check "another one leads" eventually leads_other_than "$leader"
    check "a write is taken" eventually wrote "round/$round" "$round"
    echo "      $(($(now_ms) - begun)) ms after the kill, the time of asking included"
    check "what was written before is there" [ "$(ctl get before)" = 0 ]
    cluster restart "$leader"
    check "$leader comes back and catches up" eventually has "$leader" "round/$round" "$round"
    check "and follows" [ "$(field "$leader" state)" = follower ]
done

step "A leader that is stopped in good order hands over first"
ask "It knows that it will end. What can it do that one that is killed cannot, and is that quicker?"
leader=$(ctl leader)
begun=$(now_ms)
cluster stop "$leader"
check "another one leads" eventually leads_other_than "$leader"
check "a write is taken" eventually wrote stopped yes
echo "      $(($(now_ms) - begun)) ms after the stop, the draining of the node included"
cluster restart "$leader"

step "Leadership moves when asked to"
ask "Nobody fails; another node is simply to lead. Must there be an election all the same?"
leader=$(ctl leader)
for other in n1 n2 n3; do [ "$other" = "$leader" ] || target=$other; done
takes_over() { ctl transfer "$target" && [ "$(ctl leader)" = "$target" ]; }
check "$target takes over from $leader" eventually takes_over

step "Without a majority nothing is taken, and nothing is lost"
ask "Two of three are killed, and the leader itself is alive and well. May it take a write?"
leader=$(ctl leader)
for other in n1 n2 n3; do [ "$other" = "$leader" ] || cluster kill "$other"; done
check "one of three takes no write" not ctl set minority 1 --timeout 2s
for other in n1 n2 n3; do [ "$other" = "$leader" ] || cluster restart "$other"; done
check "three of three do" eventually wrote majority 3

check "all three nodes hold the same" eventually same_on n1 n2 n3
[ "$(ctl list round/ --keys | wc -l)" -eq 3 ] || fail "an acknowledged write is gone"
pass "every acknowledged write is there"
verdict
