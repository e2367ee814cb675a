#!/usr/bin/env bash
# All tests: the engine's (Rust, no interpreter) and the behaviour tests (Python, on both loops).
# Needs cargo, and a python3 into which ironloop[test] was installed; PYTHON names another one.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --no-default-features
exec "${PYTHON:-python3}" -m pytest tests "$@"
