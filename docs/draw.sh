#!/bin/sh
# Draws the pictures of docs/ from the scripts beside them: docs/draw.sh (needs netsim in PATH, or NETBELT_BIN)
set -eu
cd "$(dirname "$0")"
netsim=${NETBELT_BIN:+$NETBELT_BIN/}netsim
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
for script in raft-*.netsim; do
    "$netsim" raft --script "$script" --trace "$trace" >/dev/null
    "$netsim" draw "$trace" >"${script%.netsim}.svg"
done
