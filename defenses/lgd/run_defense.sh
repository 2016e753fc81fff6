#!/usr/bin/env bash
# Usage: run_defense.sh INPUT_DIR OUTPUT_FILE
# models.json says what classifies.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
MODELS="$here/models.json" exec "$here/../../submission/run_defense.sh" "$@"
