#!/bin/sh
# The third exercise: five nodes, and a cut between two of them and the other three. The two cannot commit, the three go on;
# when the cut heals, the two catch up. Ends with a verdict.
#
# As root, with ip and nft, each node has a network namespace of its own and the cut is one of packets. Otherwise the nodes
# are told to ignore each other (raft-cluster.sh cut).
set -eu
name=raft-partition
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

net=nb$$
can_cut_packets() {
    [ "$(id -u)" = 0 ] && command -v ip && command -v nft && ip netns add "$net-probe" &&
        ip netns exec "$net-probe" nft add table inet probe && ip netns del "$net-probe"
}
packets=''
if can_cut_packets >/dev/null 2>&1; then packets=yes; fi
ip netns del "$net-probe" >/dev/null 2>&1 || true

# With packets: a bridge, and behind it five namespaces with a node each.
subnet=10.$((64 + $$ % 128)).$(($$ / 128 % 250))
ns() { echo "$net-$1"; }
up_in_namespaces() {
    find_tools
    RAFT_DIR=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-$name.XXXXXX")
    trap down_in_namespaces EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
    ip link add "$net" type bridge
    ip addr add "$subnet.254/24" dev "$net"
    ip link set "$net" up
    nodes=''
    for number in 1 2 3 4 5; do
        ip netns add "$(ns n$number)"
        ip link add "$net.$number" type veth peer name eth0 netns "$(ns n$number)"
        ip link set "$net.$number" master "$net" up
        ip -n "$(ns n$number)" addr add "$subnet.$number/24" dev eth0
        ip -n "$(ns n$number)" link set eth0 up
        ip -n "$(ns n$number)" link set lo up
        nodes=$nodes${nodes:+,}$subnet.$number:7001
    done
    for number in 1 2 3 4 5; do
        peers=''
        for peer in 1 2 3 4 5; do
            [ $peer = $number ] || peers="$peers --peer n$peer=$subnet.$peer:7001"
        done
        # shellcheck disable=SC2086  # one word a peer
        ip netns exec "$(ns n$number)" "$NETBELT_BIN/raft-node" --id n$number --listen "$subnet.$number:7001" --insecure \
            $peers --data-dir "$RAFT_DIR/n$number" >"$RAFT_DIR/n$number.log" 2>&1 </dev/null &
        echo $! >>"$RAFT_DIR/pids"
    done
    eventually ctl leader || fail "no leader within 10 s"
    echo "5 nodes, each in a network namespace, leader $(ctl leader)"
}
down_in_namespaces() {
    status=$?
    trap - EXIT INT TERM
    xargs -r kill <"$RAFT_DIR/pids" 2>/dev/null || true
    wait
    for number in 1 2 3 4 5; do ip netns del "$(ns n$number)" 2>/dev/null || true; done
    ip link del "$net" 2>/dev/null || true
    rm -rf "$RAFT_DIR"
    exit "$status"
}

# cut "n1 n2" "n3 n4 n5": nothing passes between the two groups, in either direction.
cut_between() {
    if [ -z "$packets" ]; then
        # shellcheck disable=SC2086  # one word a node
        cluster cut $1
        return
    fi
    for here in $1; do
        for there in $2; do
            drop_from "$here" "$there"
            drop_from "$there" "$here"
        done
    done
}
drop_from() {
    ip netns exec "$(ns "$1")" nft "add table inet cut; add chain inet cut input { type filter hook input priority 0; };
        add rule inet cut input ip saddr $subnet.${2#n} drop"
}
heal() {
    if [ -z "$packets" ]; then
        cluster heal
        return
    fi
    for id in $(ids); do ip netns exec "$(ns "$id")" nft delete table inet cut; done
}

step "Five nodes elect a leader"
ask "Five nodes start, and none of them leads. How many must agree on a leader, and does a write need all five?"
if [ -n "$packets" ]; then
    up_in_namespaces
else
    begin_cluster
    up 5
fi
ctl status
check "a write is taken" ctl set before cut
old=$(ctl leader)
term=$(field "$old" term)

step "The leader $old and one other are cut off from the other three"
minority=$old
majority=''
for id in $(ids); do
    [ "$id" = "$old" ] && continue
    if [ "$minority" = "$old" ]; then minority="$old $id"; else majority="$majority${majority:+ }$id"; fi
done
ask "$minority | $majority: which side can still write, which one can still read, and does $old notice?"
cut_between "$minority" "$majority"
echo "$minority | $majority"
leads_here() { leader=$(field "$1" leaderId) && case " $majority " in *" $leader "*) ;; *) return 1 ;; esac; }
check "the three elect one of their own" eventually leads_here "${majority%% *}"
wrote_at() { ctl_at "$1" set "$2" "$3" --timeout 2s; }
for id in $majority; do
    check "$id takes a write" eventually wrote_at "$id" "during/$id" 1
done
for id in $minority; do
    check "$id cannot commit" not ctl_at "$id" set "minority/$id" 1 --timeout 2s
    check "nor serve a read that could be stale" not ctl_at "$id" get before --timeout 2s
    check "but tells what it had, when asked for that" [ "$(ctl_at "$id" get before --stale)" = cut ]
done
leads_no_more() { [ "$(field "$1" state)" != leader ]; }
check "$old knows that it leads no more" eventually leads_no_more "$old"

step "The cut heals"
ask "$minority were told of writes that they could not commit. What becomes of those, and who leads now?"
heal
# shellcheck disable=SC2086  # one word a node
check "all five hold the same" eventually same_on $minority $majority
for id in $minority; do
    check "$id serves what was written without it" eventually has "$id" "during/${majority%% *}" 1
done
check "the term has grown" [ "$(field "$old" term)" -gt "$term" ]
ctl status
verdict
