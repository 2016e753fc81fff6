#!/usr/bin/env bash
# Tests what train.sh has trained, and the shipped defences, table by table, on images of known class; results.json and
# results.csv of each table go to experiments/TABLE.
#   experiments/evaluate.sh IMAGES LABELS.csv [TABLE...]
# Interrupted, the same command goes on with the attack that it was at.
set -euo pipefail

every=(guidances efficiency efficiency_160 transfer_lite1 transfer_lite2 classes combinations members_lite1 competition validation transports)

if [[ $# -lt 2 ]]; then
    echo "expected: experiments/evaluate.sh IMAGES LABELS.csv [TABLE...]; received $# arguments" >&2
    echo "tables, without one all: ${every[*]}" >&2
    exit 2
fi
images=$(realpath -e "$1")
labels=$(realpath -e "$2")
shift 2
cd "$(dirname "$0")/.."

tables=("$@")
if [[ $# -eq 0 ]]; then
    tables=("${every[@]}")
fi
for table in "${tables[@]}"; do
    rows=(--table="experiments/$table.json")
    if [[ $table == guidances ]]; then
        rows=(runs/comparison/{pixel,dae,feature,logits,label,distillation})
    fi
    python -m hgd_tf.evaluate "${rows[@]}" --test_dir="$images" --labels="$labels" --output_dir="experiments/$table"
done
