#!/usr/bin/env bash
# Check the code's form and run the tests; arguments go to pytest: ./test.sh -k dirichlet
set -euo pipefail
cd "$(dirname "$0")"
source venv.sh
if ! python -c 'import pytest, mpmath, xdist, onnxruntime, onnxscript' 2>/dev/null || ! command -v ruff >/dev/null; then
    python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
fi
ruff check --quiet .
ruff format --check --quiet . || { echo "error: the code is not formatted: ruff format" >&2; exit 1; }
# Two files at once, a thread each: jobs with all threads stall each other.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} python -m pytest tests -n 2 --dist loadfile "$@"
