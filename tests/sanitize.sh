#!/usr/bin/env bash
# Builds ironloop so that it sees, or does, what the usual build does not, and runs tests on that build:
#
#   tests/sanitize.sh address|thread|faults [--python INTERPRETER] [PYTEST ARGUMENT...]
#   tests/sanitize.sh leaks [RUST TEST...]
#
#   tests/sanitize.sh address tests/tls -k ironloop
#   IRONLOOP_TLS=fallback tests/sanitize.sh address --python .venv/bin/python tests/tls -x
#   tests/sanitize.sh thread --python python3.13t tests/test_threads.py -k ironloop
#   IRONLOOP_FAULTS="seed=1,rate=0.02" tests/sanitize.sh faults tests -k ironloop
#
# INTERPRETER (python3 by default) needs pytest and what the tests want. Without arguments pytest runs all tests.
#
#   address  AddressSanitizer. Only our code is instrumented, but every call of malloc and free, the interpreter's too,
#            goes through the sanitizer: it sees writes and reads of ours beyond what was allocated or after it was
#            freed, and frees of others. Leaks are not looked for; an interpreter leaves too much behind at its end.
#   thread   ThreadSanitizer. INTERPRETER has to be built with it, --with-thread-sanitizer: it brings the library, and
#            its own locks are seen. A race ends the test run with its report and exit status 66. What is suppressed,
#            and why, is in tests/support/tsan.supp.
#   leaks    valgrind runs the engine's tests, those in Rust: memory that is lost, read before it is written, or touched
#            where it is not allocated. It needs no Python. Suppressed: tests/support/valgrind.supp. A system call that
#            valgrind does not know (441, epoll_pwait2) fails, and the engine goes on without it.
#   faults   system calls fail as IRONLOOP_FAULTS says (src/engine/sys/faults.rs), and tests/faults runs.
#
# Needs Linux on x86-64 and cargo, gcc's libasan for `address`, valgrind for `leaks`; the compiler's switch is not stable
# yet, so it is told to allow it (RUSTC_BOOTSTRAP). Builds stay in target/sanitize.
#
# Exit status: pytest's, or cargo's; 66: a race; 2: wrong usage.
set -euo pipefail

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"
}

root=$(cd "$(dirname "$0")/.." && pwd)
target=x86_64-unknown-linux-gnu

case ${1:-} in
address | thread | faults)
    kind=$1
    shift
    ;;
leaks)
    # Blocks that are only `possibly` lost are those of threads: of the tests' own, and all of them in a forked child.
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --leak-check=full \
        --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect --error-exitcode=9 \
        --suppressions=$root/tests/support/valgrind.supp"
    # What loses memory loses it in each case: a quarter of the usual number takes a third of the time.
    export PROPTEST_CASES=${PROPTEST_CASES:-64}
    cd "$root"
    exec cargo test --quiet --lib --no-default-features --target "$target" -- --test-threads=1 "${@:2}"
    ;;
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

python=$(command -v "$python")
[[ $python == /* ]] || python=$PWD/$python
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
builds=${CARGO_TARGET_DIR:-$root/target}/sanitize/$kind$suffix
features=python environment=()
case $kind in
address)
    # gcc's library, as the executable is not ours to link. PYTHONMALLOC: each object is an allocation of its own.
    # What was freed is kept for a while, but not so much of it that tests of our memory use would see nothing else.
    environment=(PYTHONMALLOC=malloc LD_PRELOAD="$(gcc -print-file-name=libasan.so)"
        ASAN_OPTIONS="detect_leaks=0:quarantine_size_mb=16:allocator_may_return_null=1:${ASAN_OPTIONS:-}")
    ;;
thread)
    # rustc's instrumentation calls these by LLVM's names, gcc's library has them by their usual ones only.
    mkdir -p "$builds"
    cc -shared -fPIC -fno-builtin -o "$builds/names.so" -x c - <<'EOC'
#include <string.h>
void *__tsan_memcpy(void *to, const void *from, size_t size) { return memcpy(to, from, size); }
void *__tsan_memmove(void *to, const void *from, size_t size) { return memmove(to, from, size); }
void *__tsan_memset(void *to, int byte, size_t size) { return memset(to, byte, size); }
EOC
    # Children that never exec are not looked at: the sanitizer's own thread is not there after fork(2).
    environment=(LD_PRELOAD="$builds/names.so"
        TSAN_OPTIONS="suppressions=$root/tests/support/tsan.supp:die_after_fork=0:${TSAN_OPTIONS:-}")
    ;;
faults) features=python,faults ;;
esac

cd "$root"
if [ "$kind" != faults ]; then
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer"
fi
options=()
if [ "$kind" = thread ] && [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    # Rust's locks have to be seen as well: without its sources (rust-src) what they guard looks like a race.
    options=(-Zbuild-std)
fi
PYO3_PYTHON=$python PYO3_BUILD_EXTENSION_MODULE=1 \
    cargo build --quiet --lib "${options[@]}" --features "$features" --target "$target" --target-dir "$builds"
unset RUSTC_BOOTSTRAP RUSTFLAGS

package=$builds/package/ironloop
mkdir -p "$package"
ln -sfn "$root"/python/ironloop/* "$package"
cp "$builds/$target/debug/libironloop.so" "$package/_native$suffix"

exec env PYTHONPATH="$builds/package" "${environment[@]}" "$python" -m pytest -p no:cacheprovider "$@"
