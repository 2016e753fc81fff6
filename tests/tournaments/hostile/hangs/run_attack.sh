#!/usr/bin/env bash
# Copies one image, then hangs, its child with it.
set -euo pipefail
for file in "$1"/*.png; do
    cp "$file" "$2"
    break
done
sleep 100000 &
wait
