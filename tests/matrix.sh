#!/usr/bin/env bash
# Builds and tests ironloop on every CPython that it finds, a line for each:
#
#   tests/matrix.sh [-k EXPR] [-m EXPR] [--cpython] [--without VERSION] [--at-once N] [--keep]
#                   [INTERPRETER...]
#
#   3.12.1    ok      1234 passed, 40 skipped
#   3.13.15t  FAILED  3 failed, 1231 passed, 40 skipped (/.../target/matrix/3.13t.log)
#   3.15.0b1  FAILED  build (/.../target/matrix/3.15.log)
#
#   -k EXPR            only the tests that match, as for pytest
#   -m EXPR            only the tests with these marks, as for pytest
#   --cpython          CPython's own tests of asyncio as well (tests/cpython), all of them
#   --without VERSION  not on this one (3.11, 3.13t), which was tested otherwise
#   --at-once N        so many versions beside each other (1); the lines come as they end
#   --keep             keep the virtual environments, and say where they are
#   -h                 this text
#
# Without INTERPRETER (a path, or a name on PATH) it takes each python3.N and python3.Nt, N from 10 to 15, that is on
# PATH, in pyenv's versions (~/.pyenv, or $PYENV_ROOT) or in a folder of $IRONLOOP_PYTHONS (a:b:c); the first of each
# version, where 3.13 and 3.13t are two. Needs cargo; each interpreter needs its headers and venv. Builds and logs stay
# in target/matrix, a folder per version; a second run builds only what changed.
#
# Exit status 1: some version failed; 2: wrong usage, or no interpreter was found.
set -euo pipefail

fail() {
    echo "matrix.sh: $*" >&2
    exit 2
}

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"
}

pytest_args=(-q tests -p no:cacheprovider --color=no)
keep=0 cpython=0 at_once=1 without='' given=()
while (($#)); do
    case $1 in
    -h | --help) usage; exit 0 ;;
    -k | -m)
        (($# > 1)) || fail "$1 needs an expression"
        pytest_args+=("$1" "$2")
        shift
        ;;
    --cpython) cpython=1 ;;
    --without)
        (($# > 1)) || fail "--without needs a version"
        without+=" $2"
        shift
        ;;
    --at-once)
        [[ ${2:-} == [1-9] ]] || fail "--at-once needs a number from 1 to 9"
        at_once=$2
        shift
        ;;
    --keep) keep=1 ;;
    -*) fail "unknown option $1 (-h for help)" ;;
    *) given+=("$1") ;;
    esac
    shift
done

# Nothing but the package and pytest is installed in the environments.
unset IRONLOOP_REQUIRE_PEERS
# They would reach into the environments, or back to the one that this is run in.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHON_GIL VIRTUAL_ENV

# The interpreter's own word, as "TAG VERSION PATH"; nothing if it does not run (such as pyenv's shims of versions that
# are not enabled) or is no CPython.
probe() {
    "$1" -c '
import platform, sys, sysconfig
if sys.implementation.name == "cpython" and sys.version_info >= (3,):
    t = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print("%d.%d%s" % (*sys.version_info[:2], t), platform.python_version() + t, sys.executable)
' </dev/null 2>/dev/null || true
}

# Parallel lists; a version is in them once.
tags=() versions=() pythons=()

# Whether $1 is a CPython; it goes into the lists unless its version is there already.
add() {
    local tag version python
    read -r tag version python <<<"$(probe "$1")"
    [ -n "$python" ] || return 1
    [[ " ${tags[*]}$without " != *" $tag "* ]] || return 0
    tags+=("$tag") versions+=("$version") pythons+=("$python")
}

if ((${#given[@]})); then
    for python in "${given[@]}"; do
        add "$python" || fail "$python is no CPython 3, or does not run"
    done
else
    IFS=: read -ra folders <<<"$PATH"
    folders+=("${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin)
    IFS=: read -ra named <<<"${IRONLOOP_PYTHONS:-}"
    folders+=("${named[@]}")
    for name in python3.{10..15}{,t}; do
        for folder in "${folders[@]}"; do
            if [ -n "$folder" ] && [ -x "$folder/$name" ]; then
                add "$folder/$name" || true
            fi
        done
    done
fi
if ((!${#tags[@]})); then
    [ -n "$without" ] || fail "no interpreter found, CPython 3.10 to 3.15"
    echo "no CPython 3.10 to 3.15 found but$without"
    exit 0
fi
command -v cargo >/dev/null || fail "cargo is missing: install stable Rust, https://rustup.rs"

cd "$(dirname "$0")/.."
builds=${CARGO_TARGET_DIR:-$PWD/target}/matrix
mkdir -p "$builds"
environments=$(mktemp -d "${TMPDIR:-/tmp}/ironloop-matrix.XXXXXX")
# shellcheck disable=SC2317 # the trap calls it
cleanup() {
    if ((keep)); then
        echo "environments: $environments" >&2
    else
        rm -rf "$environments"
    fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

ulimit -c 0
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

# Runs a command; the log gets the command, its output and what the shell says of its end.
logged() {
    printf '\n== %s\n' "$*" >>"$log"
    { "$@" </dev/null; } >>"$log" 2>&1
}

# ironloop's wheel for $python, and an environment with it and pytest. Sets `result` to the step that failed.
set_up() {
    local wheel settings=(CARGO_TARGET_DIR="$builds/$tag")
    result=venv
    logged "$python" -m venv "$env" || return
    result=build
    # PyO3 refuses free-threaded builds before 3.14; as a test bed 3.13t does.
    [[ $tag != 3.13t ]] || settings+=(UNSAFE_PYO3_SKIP_VERSION_CHECK=1)
    logged env "${settings[@]}" "$env/bin/python" -m pip wheel --no-deps -w "$env/wheel" . || return
    result=install
    wheel=$(echo "$env"/wheel/ironloop-*.whl)
    # Not every optional package of the extra exists for every version; tests that want one skip without it.
    logged "$env/bin/python" -m pip install "${wheel}[test]" ||
        logged "$env/bin/python" -m pip install "$wheel" "pytest>=8" "pytest-timeout>=2.3"
}

# Runs pytest with $2...; appends to `result` what it says at the end, found by the pattern $1.
run_pytest() {
    local said status=0 pattern=$1 log=$log.part
    shift
    echo "" >"$log"
    # pytest-timeout watches over each test; this, over what hangs after its alarm. SIGABRT: the log gets all stacks.
    logged timeout --foreground -s ABRT -k 10 900 "$env/bin/python" -m pytest "$@" || status=$?
    said=$(sed -nE "s:$pattern:\\1:p" "$log" | tail -n 1)
    result+=${said:-no summary}
    cat "$log" >>"${log%.part}" && rm "$log"
    if ((status > 128)); then
        result+=", killed by SIG$(kill -l $((status - 128)) || true)"
    elif ((status == 124)); then
        result+=", timed out"
    elif ((status > 1)); then
        result+=", exit status $status"
    fi
    return "$status"
}

# Sets `result` to pytest's counts.
run_tests() {
    local status=0
    result=
    run_pytest '^([0-9]+ [a-z]+.*|no tests ran) in [0-9.]+s.*' "${pytest_args[@]}" || status=1
    if ((cpython)); then
        result+="; CPython's own: "
        run_pytest '^([0-9]+ passed / .*)' -q tests/cpython -p no:cacheprovider --color=no || status=1
    fi
    return "$status"
}

# Builds and tests the version with the index $1, and prints its line.
try_version() {
    local i=$1 tag=${tags[$1]} python=${pythons[$1]} env=$environments/${tags[$1]} log=$builds/${tags[$1]}.log result
    echo "$python, ${versions[i]}" >"$log"
    if set_up && run_tests; then
        printf '%-9s %-7s %s\n' "${versions[i]}" ok "$result"
    else
        printf '%-9s %-7s %s (%s)\n' "${versions[i]}" FAILED "$result" "$log"
        touch "$environments/failed"
        # Where the log stays behind, as in CI, this says what failed, and why.
        grep -E '^(E  |FAILED|ERROR|error)' "$log" | cut -c 1-400 | tail -n 40 || true
    fi
    ((keep)) || rm -rf "$env"
}

for i in "${!tags[@]}"; do
    if ((i >= at_once)); then
        wait -n
    fi
    try_version "$i" &
done
wait
[ ! -e "$environments/failed" ]
