#!/usr/bin/env bash
# Run the tests; arguments go to pytest: ./test.sh -k dirichlet
set -euo pipefail
cd "$(dirname "$0")"
source venv.sh
if ! python -c 'import pytest, mpmath' 2>/dev/null; then
    python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
fi
python -m pytest tests "$@"
