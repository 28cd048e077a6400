#!/usr/bin/env bash
# Run the tests; arguments go to pytest: ./test.sh -k dirichlet
set -euo pipefail
cd "$(dirname "$0")"
source venv.sh
if ! python -c 'import pytest, mpmath, xdist, onnxruntime, onnxscript' 2>/dev/null; then
    python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
fi
# Two files at once, a thread each: jobs with all threads stall each other.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} python -m pytest tests -n 2 --dist loadfile "$@"
