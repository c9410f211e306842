# Sourced by ./run and ./test: a virtual environment with what they need, made once and again when pyproject.toml changes.

say() { printf '\n== %s\n' "$*"; }

# as_root COMMAND…: as root, or through sudo (which asks only where somebody can answer)
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# debian PACKAGE…: install packages of the system where it is Debian or its kin
debian() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        echo "Neither root nor sudo: please have somebody who may install the packages $*" >&2
        return 1
    fi
    say "installing $*"
    as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# a Python that is new enough: $PYTHON, or the first of the usual names
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# environment EXTRA: $VENV holds nblb (editable) with this extra; nothing is done when it does already
environment() {
    local extra=$1 python mark
    VENV=${NBLB_VENV:-$PWD/.venv}
    mark="$VENV/.nblb-$extra"
    if [ -x "$VENV/bin/python" ] && [ -e "$mark" ] && cmp -s pyproject.toml "$mark"; then
        return
    fi
    python=$(find_python) || { debian python3 python3-venv && python=$(find_python); } || {
        echo "Python 3.10 or newer is needed; set PYTHON to one." >&2
        return 1
    }
    if [ ! -x "$VENV/bin/python" ]; then
        say "creating $VENV with $("$python" --version)"
        # Debian's python3 comes without ensurepip until python3-venv is there
        "$python" -c 'import ensurepip' 2>/dev/null || debian python3-venv
        "$python" -m venv "$VENV"
    fi
    say "installing nblb[$extra] into $VENV (a few minutes the first time)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"
    cp pyproject.toml "$mark"
}
