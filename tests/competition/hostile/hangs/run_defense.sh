#!/usr/bin/env bash
# Answers for one image, then hangs, its child with it.
set -euo pipefail
ls "$1" | head -n 1 | sed 's/$/,1/' > "$2"
sleep 100000 &
wait
