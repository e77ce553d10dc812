# What scripts share: finding the tools, an end that leaves nothing behind, waiting, checking, a verdict, a cluster in a
# directory of its own. To be read by a script that has set `root` to the top of the project and `name` to its own name.
# shellcheck shell=sh
: "${root:?}" "${name:?}"

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

# What the next checks answer. A person at a terminal gets time to think.
ask() {
    printf '%s?  %s%s\n' "$bold" "$*" "$plain"
    if [ -t 0 ] && [ -t 1 ]; then
        printf '   (Enter shows) '
        read -r _ || true
    fi
}

checks=0
# One more thing that held.
pass() {
    checks=$((checks + 1))
    printf 'ok    %s\n' "$*"
}
fail() {
    printf 'FAIL  %s\n%s: FAIL\n' "$*" "$name" >&2
    exit 1
}
# check WORDS COMMAND...: the command succeeds.
check() {
    what=$1
    shift
    "$@" >/dev/null 2>&1 || fail "$what"
    pass "$what"
}
verdict() { printf '\n%s: PASS (%s checks)\n' "$name" "$checks"; }

# find_tools TOOL...: says in NETBELT_BIN where they are. They are built, where there is cargo and NETBELT_BIN says nothing.
find_tools() {
    if [ -z "${NETBELT_BIN:-}" ]; then
        NETBELT_BIN=$root/target/release
        if command -v cargo >/dev/null; then
            cargo build --manifest-path "$root/Cargo.toml" --target-dir "$root/target" --release --locked --quiet --bins
        fi
    fi
    case $NETBELT_BIN in
    /*) ;;
    *) NETBELT_BIN=$PWD/$NETBELT_BIN ;;
    esac
    for tool in "$@"; do
        [ -x "$NETBELT_BIN/$tool" ] ||
            fail "no $tool in $NETBELT_BIN: install a Rust toolchain (https://rustup.rs), or set NETBELT_BIN"
    done
    export NETBELT_BIN
}

# end_with COMMAND: however the script ends from now on, the command cleans up.
end_with() {
    clean_up=$1
    trap end EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
}
end() {
    status=$?
    trap - EXIT INT TERM
    "$clean_up" || true
    exit "$status"
}

# A directory and ports for one run.
begin_cluster() {
    find_tools raft-node raft-ctl
    RAFT_DIR=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-$name.XXXXXX")
    # Two runs at once do not meet; a port that is taken is reported by the node that wanted it.
    RAFT_PORT=${RAFT_PORT:-$((20000 + $$ % 10000))}
    export RAFT_DIR RAFT_PORT
    end_with end_cluster
}
end_cluster() {
    cluster down >/dev/null 2>&1 || true
    rm -rf "$RAFT_DIR"
}

cluster() { "$root/scripts/raft-cluster.sh" "$@"; }
# Starts the cluster and learns where it is.
up() {
    cluster up "$@"
    nodes=$(cluster nodes)
}
ctl() { "$NETBELT_BIN/raft-ctl" --nodes "$nodes" "$@"; }
addr_of() { echo "$nodes" | cut -d , -f "${1#n}"; }
# ctl_at NODE...: asks this node alone.
ctl_at() {
    at=$(addr_of "$1")
    shift
    "$NETBELT_BIN/raft-ctl" --nodes "$at" "$@"
}
ids() { seq -f 'n%.0f' 1 "$(echo "$nodes" | tr , '\n' | grep -c .)"; }

# Waits up to $1 tenths of a second until the rest of the line succeeds.
within() {
    tenths=$1
    shift
    while ! "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}
# The same, up to 10 s.
eventually() { within 100 "$@"; }
not() { ! "$@"; }
leads_other_than() { new=$(ctl leader) && [ "$new" != "$1" ]; }
has() { [ "$(ctl_at "$1" get "$2")" = "$3" ]; }
# All of these nodes, each asked for what it has itself, hold the same keys, values and versions.
same_on() {
    first_list=''
    for node in "$@"; do
        ctl_at "$node" list --stale --json >"$RAFT_DIR/$node.list" || return 1
        first_list=${first_list:-$RAFT_DIR/$node.list}
        cmp -s "$first_list" "$RAFT_DIR/$node.list" || return 1
    done
    [ -s "$first_list" ]
}
# One field of a node's status; raft-ctl tells of the other members, too.
field() {
    ctl_at "$1" status --json | grep "\"nodeId\":\"$1\"" |
        sed -n "s/.*\"$2\":\"\{0,1\}\([^,\"]*\)\"\{0,1\}[,}].*/\1/p" | head -n 1
}
now_ms() { date +%s%3N; }
