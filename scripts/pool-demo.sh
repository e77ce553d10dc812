#!/bin/sh
# Shows what worker-pool does, on real commands, and fails when any of it does not hold. Takes a few seconds.
set -eu

name=pool-demo
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"
find_tools worker-pool
bin=$NETBELT_BIN

dir=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-$name.XXXXXX")
clean_up_here() { rm -rf "$dir"; }
end_with clean_up_here
cd "$dir"
PATH=$bin:$PATH

# Prints a command line and runs it; keeps what it prints in `out` and `err`, its exit code in $code.
say() {
    printf '$ %s\n' "$*"
    code=0
    sh -c "$*" >out 2>err || code=$?
    cat out err
}
exits() { [ "$code" -eq "$1" ] || fail "the exit code is $code, not $1"; }

step "Three workers, five jobs: each doubles a number"
say "worker-pool demo --workers 3 --jobs 5"
exits 0
for n in 1 2 3 4 5; do grep -q "^worker [123]: job $n -> $((2 * n))\$" out || fail "nobody doubled $n"; done

step "A command for each line, four at a time, results in the order of the input"
say "seq 1 8 | worker-pool -j 4 --keep-order -- sh -c 'sleep 0.\$((9 - \$1)); echo \$1 squared is \$((\$1 * \$1))' sh"
exits 0
[ "$(cut -d ' ' -f 1 out | tr -d '\n')" = 12345678 ] || fail "the results are out of order"

step "A job that fails is named; the others are run; the exit code tells"
say "printf '%s\n' a b c | worker-pool -- test b !="
exits 1
grep -q 'job 2 (b)' err || fail "the failed job is not named"

step "A job out of time is ended with everything that it has started"
say "echo 1000 | worker-pool --timeout 300ms -- sh -c 'sleep \$1 & echo \$! >child; wait' sh"
exits 1
grep -q 'timed out' err || fail "the time-out is not reported"
state=$(sed 's/.*) //' "/proc/$(cat child)/stat" 2>/dev/null || true)
case $state in '' | Z*) ;; *) fail "the job's child lives on" ;; esac

step "Also with what has left its process group"
say "echo 1000 | worker-pool --timeout 500ms -- sh -c 'setsid sleep \$1 >/dev/null 2>&1 & echo \$! >apart; wait' sh"
exits 1
state=$(sed 's/.*) //' "/proc/$(cat apart)/stat" 2>/dev/null || true)
case $state in '' | Z*) ;; *) fail "the process apart lives on" ;; esac

step "Few files: jobs wait for a place, and all are run"
say "ulimit -n 64; seq 100 | worker-pool -j 100 -- sh -c 'exec sleep 0.1' && echo all of them"
exits 0
grep -q 'all of them' out || fail "jobs were lost"

step "A job log: what has been run is not run again, whatever else is new in the input"
say "printf '%s\n' one two | worker-pool -j 1 --joblog log -- echo did"
exits 0
say "printf '%s\n' zero one two three | worker-pool -j 1 --joblog log --resume -- echo did"
exits 0
[ "$(tr '\n' , <out)" = 'did zero,did three,' ] || fail "resume ran the wrong commands"
say "cut -f 1,7,9 log"
[ "$(wc -l <log)" -eq 5 ] || fail "the log has not one line for each job"

step "The first success ends the others"
say "printf '%s\n' 1000 0.1 2000 | worker-pool -j 3 --first -- sh -c 'sleep \$1; echo \$1 was the quickest' sh"
exits 0
[ "$(cat out)" = '0.1 was the quickest' ] || fail "another one was printed"

step "No job is code, not even for a shell"
say "echo '; touch pwned #' | worker-pool --shell -- 'echo {} | tr a-z A-Z'"
exits 0
if [ -e pwned ]; then fail "a job was run as code"; fi

step "For programs: JSON lines"
say "printf '%s\n' 0 3 | worker-pool -j 1 --json -- sh -c 'exit \$1' sh"
exits 1
grep -q '"event":"summary".*"ok":1,"failed":1' out || fail "the summary is wrong"

echo
echo "pool-demo: all steps passed"
