#!/bin/sh
# A Raft cluster of real processes on this machine: up N | down | kill ID | restart ID | cut ID | heal | status ..
set -eu

usage() {
    cat <<'EOF'
usage: scripts/raft-cluster.sh up [N] | down | kill ID | stop ID | restart ID | wipe ID | join ID [AT] | pause ID |
                               resume ID | cut ID.. | heal | status | nodes

  up N         start n1 .. nN (default 3), on their old data if there is any, and wait until one of them leads; when that
               fails, what it started is stopped, and what it made is removed
  down         stop all nodes and keep their data
  kill ID      kill -9 one node
  stop ID      stop one node gracefully
  restart ID   start a node again on its old data and port
  wipe ID      delete the data of a node that is down
  join ID [AT] start a node that has no data, and let it join through the node AT (default n1)
  pause ID     freeze a node (SIGSTOP); resume ID lets it go on
  cut ID..     cut these nodes off from the others: no message passes, in either direction; heal ends every cut
  status       print a table of all nodes
  nodes        print the addresses, for raft-ctl --nodes

Environment:
  RAFT_DIR     where data, logs and ports are kept      (default: .raft-cluster)
  RAFT_PORT    the first node's port, others follow it  (default: 7001)
  NETBELT_BIN  where the binaries are                   (default: target/release, built when missing)
  RAFT_FLAGS   more arguments for every node, such as -v
EOF
}

name=raft-cluster
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
dir=${RAFT_DIR:-.raft-cluster}
first_port=${RAFT_PORT:-7001}
bin=${NETBELT_BIN:-$root/target/release}

fail() {
    echo "$name: $*" >&2
    exit 1
}

# The cluster's size and first port stay as they were when it was created.
load() {
    [ -f "$dir/cluster" ] || fail "no cluster in $dir: start one with scripts/raft-cluster.sh up 3"
    read -r size first_port <"$dir/cluster"
}

port_of() { echo $((first_port + ${1#n} - 1)); }

ids() { seq -f 'n%.0f' 1 "$size"; }

check_id() {
    for known in $(ids); do
        [ "$known" = "$1" ] && return
    done
    fail "no node '$1' in this cluster: there are $(ids | tr '\n' ' ')"
}

addresses() {
    for id in $(ids); do echo "127.0.0.1:$(port_of "$id")"; done | paste -s -d , -
}

# True when the node's process runs; a process that has taken over its number is not taken for it.
running() {
    [ -f "$dir/$1.pid" ] && grep -aqs -e "--id.$1" "/proc/$(cat "$dir/$1.pid")/cmdline"
}

# start_node ID [AT]: with all others as peers, or joining through one of them.
start_node() {
    if running "$1"; then fail "$1 is running already"; fi
    peers=
    if [ -n "${2:-}" ]; then
        peers="--join 127.0.0.1:$(port_of "$2")"
    else
        for peer in $(ids); do
            [ "$peer" = "$1" ] || peers="$peers --peer $peer=127.0.0.1:$(port_of "$peer")"
        done
    fi
    rm -f "$dir/$1.ready"
    # shellcheck disable=SC2086  # one word a peer
    nohup "$bin/raft-node" --id "$1" --listen "127.0.0.1:$(port_of "$1")" $peers --data-dir "$dir/$1" --cut ${RAFT_FLAGS:-} \
        --ready-file "$dir/$1.ready" >>"$dir/$1.log" 2>&1 </dev/null &
    echo $! >"$dir/$1.pid"
}

# By its number: right after the fork, its command line is still that of this shell.
ready_or_gone() { [ -f "$dir/$1.ready" ] || ! kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null; }

wait_ready() {
    within 300 ready_or_gone "$1" || fail_with_log "$1" "$1 is not ready after 30 s"
    [ -f "$dir/$1.ready" ] || fail_with_log "$1" "$1 did not start"
}
# The log may go with the cluster: its end is told here.
fail_with_log() {
    tail -n 3 "$dir/$1.log" >&2
    fail "$2"
}

signal() {
    running "$2" || fail "$2 is not running"
    kill "-$1" "$(cat "$dir/$2.pid")"
}

gone() { ! running "$1"; }

up() {
    find_tools raft-node raft-ctl
    bin=$NETBELT_BIN
    started='' new='' owner='' outside=$dir
    while [ ! -d "$outside" ]; do outside=$(dirname "$outside"); done
    end_with undo
    mkdir -p "$dir"
    mkdir "$dir/starting" 2>/dev/null || fail "another 'up' is at work in $dir (if not: rmdir $dir/starting)"
    owner=yes
    if [ -f "$dir/cluster" ]; then
        wanted=$1
        load
        if [ -n "$wanted" ] && [ "$wanted" != "$size" ]; then
            fail "$dir holds a cluster of $size: remove it, or set RAFT_DIR to another directory"
        fi
        if [ -n "${RAFT_PORT:-}" ] && [ "$RAFT_PORT" != "$first_port" ]; then
            fail "the cluster in $dir has its ports from $first_port on: unset RAFT_PORT, or set RAFT_DIR to another directory"
        fi
    else
        size=${1:-3}
        case $size in
        [1-9]) ;;
        *) fail "'$size' is no number of nodes from 1 to 9" ;;
        esac
        new=yes
        echo "$size $first_port" >"$dir/cluster"
    fi
    for id in $(ids); do
        running "$id" && continue
        started="$started $id"
        start_node "$id"
    done
    for id in $started; do wait_ready "$id"; done
    if ! within 100 "$bin/raft-ctl" --nodes "$(addresses)" leader; then
        "$bin/raft-ctl" --nodes "$(addresses)" status >&2 || true
        fail "no leader within 10 s"
    fi
    echo "$size nodes in $dir, leader $("$bin/raft-ctl" --nodes "$(addresses)" leader)"
    started='' new='' outside=$dir
}

# However `up` ends. A cluster that is not all there is stopped; nothing is left of one that was never there before.
undo() {
    for id in $started; do
        # Right after the fork a node's command line is still that of this shell: it goes by its number, and is waited for.
        pid=$(cat "$dir/$id.pid" 2>/dev/null) || continue
        kill -TERM "$pid" 2>/dev/null || true
    done
    for id in $started; do
        pid=$(cat "$dir/$id.pid" 2>/dev/null) || continue
        within 80 not kill -0 "$pid" || kill -KILL "$pid" 2>/dev/null || true
        rm -f "$dir/$id.pid" "$dir/$id.ready"
    done
    if [ -n "$new" ]; then
        for id in $(ids); do rm -rf "${dir:?}/$id" "$dir/$id.log"; done
        rm -f "$dir/cluster"
    fi
    [ -z "$owner" ] || rmdir "$dir/starting" 2>/dev/null || true
    while [ "$dir" != "$outside" ] && rmdir "$dir" 2>/dev/null; do dir=$(dirname "$dir"); done
}

down() {
    for id in $(ids); do
        if running "$id"; then
            kill -CONT "$(cat "$dir/$id.pid")"
            kill -TERM "$(cat "$dir/$id.pid")"
        fi
    done
    for id in $(ids); do
        within 80 gone "$id" || signal KILL "$id"
        rm -f "$dir/$id.pid" "$dir/$id.ready"
    done
}

# tell NODE PEER,PEER: the node is to ignore these; none to hear all again.
tell() { "$bin/raft-ctl" --nodes "127.0.0.1:$(port_of "$1")" cut ${2:+"$2"} >/dev/null; }
# A node that does not run hears nobody, and nobody is ignored by one that starts.
cut_off() {
    there=''
    for id in $(ids); do
        case " $* " in *" $id "*) ;; *) there="$there $id" ;; esac
    done
    [ -n "$there" ] || fail "these are all the nodes: there is nobody to cut them off from"
    for id in "$@"; do if running "$id"; then tell "$id" "$(commas "$there")"; fi; done
    for id in $there; do if running "$id"; then tell "$id" "$(commas "$*")"; fi; done
}
heal() { for id in $(ids); do if running "$id"; then tell "$id" ''; fi; done; }
commas() { echo "$1" | xargs | tr ' ' ,; }

case ${1:-} in
up) up "${2:-}" ;;
down)
    load
    down
    ;;
status)
    load
    "$bin/raft-ctl" --nodes "$(addresses)" status
    ;;
nodes)
    load
    addresses
    ;;
join)
    [ $# -eq 2 ] || [ $# -eq 3 ] || fail "join which node? (scripts/raft-cluster.sh join n2 n1)"
    load
    check_id "$2"
    check_id "${3:-n1}"
    [ "$2" != "${3:-n1}" ] || fail "$2 cannot join through itself (scripts/raft-cluster.sh join $2 ANOTHER)"
    [ ! -e "$dir/$2" ] || fail "$2 has data in $dir/$2: wipe it first, if nobody needs it"
    start_node "$2" "${3:-n1}"
    wait_ready "$2"
    ;;
kill | stop | restart | wipe | pause | resume)
    [ $# -eq 2 ] || fail "$1 which node? (scripts/raft-cluster.sh $1 n1)"
    load
    check_id "$2"
    case $1 in
    kill) signal KILL "$2" && within 50 gone "$2" ;;
    stop) signal TERM "$2" && within 80 gone "$2" ;;
    pause) signal STOP "$2" ;;
    resume) signal CONT "$2" ;;
    wipe)
        if running "$2"; then fail "$2 is running: stop it first"; fi
        rm -rf "${dir:?}/$2"
        ;;
    restart)
        start_node "$2"
        wait_ready "$2"
        ;;
    esac
    ;;
cut)
    [ $# -ge 2 ] || fail "cut which node off? (scripts/raft-cluster.sh cut n1)"
    shift
    load
    for id in "$@"; do check_id "$id"; done
    cut_off "$@"
    ;;
heal)
    load
    heal
    ;;
-h | --help | help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
