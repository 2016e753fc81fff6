#!/usr/bin/env bash
# Tests what train.sh has trained, table by table, on images of known class; results.json and results.csv of each table
# go to docs/comparisons/TABLE.
#   docs/comparisons/evaluate.sh IMAGES LABELS.csv [TABLE...]
# Tables: guidances efficiency efficiency_160 transfer_lite1 transfer_lite2 classes combinations. Without one: all of them.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "expected: docs/comparisons/evaluate.sh IMAGES LABELS.csv [TABLE...]; received $# arguments" >&2
    exit 2
fi
images=$(realpath -e "$1")
labels=$(realpath -e "$2")
shift 2
cd "$(dirname "$0")/../.."

for table in ${@:-guidances efficiency efficiency_160 transfer_lite1 transfer_lite2 classes combinations}; do
    rows=(--table="docs/comparisons/$table.json")
    if [[ $table == guidances ]]; then
        rows=(runs/comparison/{pixel,dae,feature,logits,label,distillation})
    fi
    python -m hgd_tf.evaluate "${rows[@]}" --test_dir="$images" --labels="$labels" --adaptive_images=50 --output_dir="docs/comparisons/$table"
done
