#!/usr/bin/env bash
# usage: tests/run.sh [--slow] [arguments of pytest]
#
# Makes the environment (.venv, or what DEEPSPEAKER_PYTHON names), then ruff, mypy --strict, shellcheck, pytest. With
# --slow the trainings that take minutes run too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

slow=()
if [ "${1:-}" = --slow ]; then
  slow=(--run-slow)
  shift
fi
utils/setup.sh demo,test
python=${DEEPSPEAKER_PYTHON:-.venv/bin/python}
if [ -d "$python" ]; then python=$python/bin/python; fi
PATH=$(cd "$(dirname "$python")" && pwd):$PATH
export PATH

ruff check .
mypy
shellcheck recipes/librispeech/*.sh local/*.sh utils/*.sh utils/deepspeaker tests/run.sh .ci/run
python3 -m pytest ${slow[@]+"${slow[@]}"} "$@"
