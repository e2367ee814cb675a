#!/usr/bin/env bash
# Builds ironloop with AddressSanitizer and runs tests on that build:
#
#   tests/sanitize.sh address [--python INTERPRETER] [PYTEST ARGUMENT...]
#
#   tests/sanitize.sh address tests/tls -k ironloop
#   IRONLOOP_TLS=fallback tests/sanitize.sh address --python .venv/bin/python tests/tls -x
#
# INTERPRETER (python3 by default) needs pytest and what the tests want. Without arguments pytest runs all tests. Only
# our code is instrumented, but every call of malloc and free, the interpreter's too, goes through the
# sanitizer: it sees writes and reads of ours beyond what was allocated or after it was freed, and frees of others.
# Leaks are not looked for; an interpreter leaves too much behind at its end.
#
# Needs Linux on x86-64, gcc's libasan and cargo; the compiler's switch is not stable yet, so it is told
# to allow it (RUSTC_BOOTSTRAP). Builds stay in target/sanitize.
#
# Exit status: pytest's; 2: wrong usage.
set -euo pipefail

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"
}

case ${1:-} in
address) shift ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac
python=python3
if [ "${1:-}" = --python ]; then
    python=${2:?--python needs an interpreter}
    shift 2
fi
(($#)) || set -- tests

root=$(cd "$(dirname "$0")/.." && pwd)
python=$(command -v "$python")
[[ $python == /* ]] || python=$PWD/$python
runtime=$(gcc -print-file-name=libasan.so)
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
builds=${CARGO_TARGET_DIR:-$root/target}/sanitize/address$suffix
target=x86_64-unknown-linux-gnu

cd "$root"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer" \
    PYO3_PYTHON=$python PYO3_BUILD_EXTENSION_MODULE=1 \
    cargo build --quiet --lib --target "$target" --target-dir "$builds"

package=$builds/package/ironloop
mkdir -p "$package"
ln -sf "$root"/python/ironloop/*.py* "$package"
cp "$builds/$target/debug/libironloop.so" "$package/_native$suffix"

# gcc's library, as the executable is not ours to link. PYTHONMALLOC: each object is an allocation of its own.
# What was freed is kept for a while, but not so much of it that tests of our memory use would see nothing else.
exec env PYTHONPATH="$builds/package" PYTHONMALLOC=malloc LD_PRELOAD="$runtime" \
    ASAN_OPTIONS="detect_leaks=0:quarantine_size_mb=16:allocator_may_return_null=1:${ASAN_OPTIONS:-}" \
    "$python" -m pytest -p no:cacheprovider "$@"
