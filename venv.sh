# Sourced by run.sh and test.sh: makes .venv if it is missing or requirements.txt has changed, and activates it.
python=${PYTHON:-python3}
if ! cmp -s requirements.txt .venv/installed.txt; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: $python is not Python 3.11 or newer; set PYTHON to one that is (PYTHON=python3.12 $0)" >&2
        exit 2
    fi
    echo "Installing requirements.txt into .venv (once; a few minutes)"
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt .venv/installed.txt
fi
export PATH="$PWD/.venv/bin:$PATH"  # what `activate` does, also after the folder was moved
