#!/bin/sh
# What a job costs: `true` so many times, two at a time, by worker-pool and its peers, against a bare posix_spawn loop.
# The runs of all are interleaved and repeated, and medians compared: other load then falls on all alike.
set -eu

usage() {
    cat <<'EOF'
usage: benches/pool.sh [JOBS [ROUNDS]]      (default: 5000 jobs, 7 rounds)

Environment:
  NETBELT_BIN  where worker-pool is (default: target/release, built when missing)
  CC           the C compiler for the bare loop (default: cc)
EOF
}

case ${1:-} in
-h | --help)
    usage
    exit 0
    ;;
esac
jobs=${1:-5000}
rounds=${2:-7}
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${NETBELT_BIN:-$root/target/release}

die() {
    echo "pool.sh: $*" >&2
    exit 1
}

if [ -z "${NETBELT_BIN:-}" ] && command -v cargo >/dev/null; then
    cargo build --manifest-path "$root/Cargo.toml" --target-dir "$root/target" --release --locked --quiet --bin worker-pool
fi
[ -x "$bin/worker-pool" ] || die "no worker-pool in $bin: install cargo, or set NETBELT_BIN"
dir=$(mktemp -d "${TMPDIR:-/tmp}/netbelt-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"${CC:-cc}" -O2 -o "$dir/spawn_loop" "$root/benches/spawn_loop.c" || die "the bare loop needs a C compiler: set CC"
seq "$jobs" >"$dir/jobs"

run() {
    case $1 in
    posix_spawn) "$dir/spawn_loop" "$jobs" 2 true ;;
    worker-pool) "$bin/worker-pool" -j 2 -- true ;;
    worker-pool_--json) "$bin/worker-pool" -j 2 --json -- true ;;
    worker-pool_-k_--joblog)
        rm -f "$dir/log"
        "$bin/worker-pool" -j 2 -k --joblog "$dir/log" -- true
        ;;
    xargs) xargs -P 2 -n 1 true ;;
    parallel) parallel --will-cite -j 2 true ;;
    rust-parallel) rust-parallel -j 2 true ;;
    esac <"$dir/jobs" >/dev/null
}

candidates='posix_spawn worker-pool worker-pool_--json worker-pool_-k_--joblog'
for peer in xargs rust-parallel parallel; do
    if command -v "$peer" >/dev/null; then
        candidates="$candidates $peer"
    else
        echo "$peer is not installed: left out"
    fi
done

echo "$jobs x true, 2 at a time, $rounds rounds, $(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg)"
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    for candidate in $candidates; do
        # GNU parallel takes so much longer that one round in three is enough.
        if [ "$candidate" = parallel ] && [ $((round % 3)) -ne 1 ]; then continue; fi
        before=$(date +%s%N)
        run "$candidate" || die "$candidate failed"
        after=$(date +%s%N)
        echo "$candidate $(((after - before) / 1000))" >>"$dir/times"
    done
done

# The ratio is that of each round to the bare loop in the same round; of both, the median.
awk '
    function median(list, count,    i, j, value) {
        for (i = 2; i <= count; i++) {
            value = list[i]
            for (j = i - 1; j > 0 && list[j] > value; j--) list[j + 1] = list[j]
            list[j + 1] = value
        }
        return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
    }
    $1 == "posix_spawn" { bare = $2 }
    {
        if (!($1 in count)) order[++names] = $1
        times[$1, ++count[$1]] = $2
        ratios[$1, count[$1]] = $2 / bare
    }
    END {
        printf "%-26s %10s %12s %8s %18s\n", "", "median s", "us a job", "ratio", "lowest..highest"
        for (n = 1; n <= names; n++) {
            name = order[n]
            for (i = 1; i <= count[name]; i++) { time[i] = times[name, i]; ratio[i] = ratios[name, i] }
            middle = median(time, count[name])
            typical = median(ratio, count[name])
            shown = name
            gsub("_-", " -", shown)
            printf "%-26s %10.3f %12.0f %8.2f %10.2f..%.2f\n", shown, middle / 1e6, middle / jobs, typical, ratio[1], ratio[count[name]]
        }
    }' jobs="$jobs" "$dir/times"
