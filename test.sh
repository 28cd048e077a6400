#!/usr/bin/env bash
# Run the tests; arguments go to pytest: ./test.sh -k dirichlet
set -euo pipefail
cd "$(dirname "$0")"
source venv.sh
python -m pytest tests "$@"
