#!/usr/bin/env bash
# Usage: run_defense.sh INPUT_DIR OUTPUT_FILE
# Runs the package hgd_tf, installed or one folder up. $MODELS: another defence than models.json.
set -euo pipefail
if [ $# -ne 2 ]; then
    echo "usage: ${0##*/} INPUT_DIR OUTPUT_FILE" >&2
    exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m hgd_tf.defend \
    --defense="${MODELS:-$here/models.json}" \
    --images="$1" --output_file="$2"
