#!/usr/bin/env bash
# Rows that are none, labels that are none, images that nobody asked for; and changes its input.
set -euo pipefail
for file in "$1"/*.png; do
    echo "${file##*/},none"
    echo "${file##*/},1001"
    echo "nobody.png,1"
    echo garbage >> "$file"
done > "$2"
head -c 100 /dev/urandom >> "$2"
