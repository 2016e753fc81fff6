#!/usr/bin/env bash
# Usage: run_defense.sh INPUT_DIR OUTPUT_FILE
# The default line-up of submission/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../../submission/run_defense.sh" "$@"
