#!/bin/sh
# Puts known bugs back, one at a time, and shows which instrument sees each: unit tests, simulation, model checker.
# Usage: scripts/mutants.sh [NAME...]     (all of build.rs without a name)
# With elected_without_majority, netsim itself is run, too: whether a broken promise reaches its exit code and its message.
# A simulation that is to be shown bugs is called every_seed...
# SEEDS=200 simulated seeds a bug, LIMIT=60 seconds an instrument. FIRST=1 stops at the first instrument that sees a bug: the
# answer in a third of the time, without the whole table. Exit 1 when a bug survives them all.
set -eu
cd "$(dirname "$0")/.."

SEEDS=${SEEDS:-200}
LIMIT=${LIMIT:-60}
FIRST=${FIRST:-0}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

names=$*
[ $# -gt 0 ] || names=$(sed -n 's/^    "\([a-z_]*\)",$/\1/p' build.rs)

# binary NAME: the test binary of that name in what cargo has built.
binary() { sed -n "s/.*Executable $1 (\(.*\))\$/\1/p" "$out/build"; }

# instrument NAME COMMAND...: runs it, and says in one cell how it went.
instrument() {
    log=$out/$1
    shift
    if [ "$FIRST$caught" = 1yes ]; then
        cell="not asked"
        return
    fi
    began=$(date +%s)
    status=0
    timeout -k 5 "$LIMIT" "$@" >"$log" 2>&1 || status=$?
    took=$(($(date +%s) - began))
    case $status in
        0) cell="-" ;;
        124 | 137) cell="no end in $LIMIT s" ;;
        *)
            caught=yes
            cell="$(finding "$log"), $took s"
            ;;
    esac
}

# finding LOG: what broke, as short as it can be said.
finding() {
    panic=$(awk '/panicked at/ { found = 1; next } found && NF { print; exit }' "$1")
    seed=$(sed -n -e 's/.*(netsim raft --seed \([0-9]*\) .*/\1/p' -e 's/.*(wipes, seed \([0-9]*\))$/\1/p' "$1" | head -n 1)
    broken=$(sed -n 's/.*Unexpected "\([^"]*\)".*/\1/p' "$1" | head -n 1)
    {
        sed -n -e '/every_seed_of\|everything_that_can_happen/d' -e 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$1"
        [ -z "$seed" ] || echo "seed $seed: ${panic%%:*}"
        [ -z "$broken" ] ||
            echo "$broken, $(sed -n 's/^\(.*\): \([0-9]*\) states,.*/after \2 states of "\1"/p' "$1" | tail -n 1)"
        echo "${panic:-it failed}"
    } | head -n 1
}

told=netsim::script::a_broken_promise_is_exit_1_and_names_the_line_the_command_and_the_promise
survivors=
echo "| bug | unit tests | simulation | model checker |"
echo "|---|---|---|---|"
# build WHAT...: the test binaries with the bug in them.
build() {
    if ! NETBELT_MUTANT=$mutant cargo test --no-run "$@" >"$out/build" 2>&1; then
        cat "$out/build" >&2
        exit 2
    fi
}

for mutant in $names; do
    caught=no
    build --lib
    # Those of the disk know no bug, and take a minute.
    instrument unit "$(binary 'unittests src\/lib.rs')" --skip net::disk::
    unit=$cell
    [ "$FIRST$caught" = 1yes ] || build --test simulation --test model --test bully_model
    instrument simulation env NETBELT_SEEDS="$SEEDS" "$(binary 'tests\/simulation\/main.rs')" every_seed
    simulation=$cell
    case $mutant in
        bully_*) model=$(binary 'tests\/bully_model\/main.rs') ;;
        *) model=$(binary 'tests\/model\/main.rs') ;;
    esac
    instrument model env RUST_BACKTRACE=0 "$model" --nocapture
    model=$cell
    echo "| \`$mutant\` | $unit | $simulation | $model |"
    [ "$caught" = yes ] || survivors="$survivors $mutant"
    if [ "$mutant" = elected_without_majority ] &&
        ! NETBELT_MUTANT=$mutant cargo test --test cli -- --exact "$told" >"$out/told" 2>&1; then
        cat "$out/told" >&2
        exit 1
    fi
done

[ -z "$survivors" ] || {
    echo "mutants.sh: nothing saw:$survivors" >&2
    exit 1
}
