#!/usr/bin/env bash
# usage: tests/run.sh [--slow] [arguments of pytest]
#
# Makes the environment (.venv, or what DEEPSPEAKER_PYTHON names), then ruff, mypy --strict, shellcheck, pytest. With
# --slow the trainings that take minutes run too. As root on Debian, slurm-wlm and munge are installed where they are missing:
# the tests in tests/slurm start a Slurm of their own and end it.
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
shellcheck recipes/librispeech/*.sh local/*.sh utils/*.sh utils/deepspeaker tests/run.sh tests/slurm/*.sh .ci/run
export DEEPSPEAKER_TESTS_INSTALL=1  # slurm-wlm and munge, where apt-get and root are there
python3 -m pytest ${slow[@]+"${slow[@]}"} "$@"
