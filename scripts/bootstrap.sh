# Sourced by scripts/stelab and scripts/test: makes .venv at the top of the checkout, once.
# usage: bootstrap EXTRA    EXTRA is "all" (optional launchers and sweepers), or "dev": that and the checks
#
# A stamp with the checksum of what was installed is written last: an interrupted installation
# has none, and is done again. A lock keeps two callers from installing at once.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

bootstrap() {
    local extra=$1 sum python
    sum=$(cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum)
    installed "$extra" "$sum" && return

    python=$(find_python) || { echo "stelab needs Python 3.10 or newer on the PATH (python3)" >&2; exit 1; }
    exec 9>"$root/.venv.lock"
    if command -v flock >/dev/null; then flock 9; fi
    if ! installed "$extra" "$sum"; then
        echo "Installing stelab in .venv (once; a few minutes) ..." >&2
        install "$python" "$extra" || {
            echo "The installation failed: see above. Is the package index reachable, and is there disk space?" >&2
            exit 1
        }
        echo "$sum" >"$venv/.installed-$extra"
    fi
    exec 9>&-
}

installed() {
    local stamp
    for stamp in "$venv/.installed-$1" "$venv/.installed-dev"; do
        [ "$(cat "$stamp" 2>/dev/null)" = "$2" ] && return
    done
    return 1
}

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    return 1
}

install() {
    local python=$1 extra=$2
    rm -f "$venv"/.installed-*
    # An environment that lost its interpreter (a moved checkout, a removed Python) is made anew.
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" || return
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/scripts/constraints.txt" --editable "$root[$extra]"
}
