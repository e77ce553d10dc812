#!/bin/sh
# Draws docs/raft-figure.svg from the script beside it: docs/draw.sh (needs netsim in PATH, or NETBELT_BIN)
set -eu
cd "$(dirname "$0")"
netsim=${NETBELT_BIN:+$NETBELT_BIN/}netsim
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
"$netsim" raft --script raft-figure.netsim --trace "$trace" >/dev/null
"$netsim" draw "$trace" --title "A leader is cut off, replaced, and repaired" >raft-figure.svg
