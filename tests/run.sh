#!/usr/bin/env bash
# usage: tests/run.sh [--slow] [arguments of pytest]
#
# Creates the environment (.venv, unless DEEPSPEAKER_PYTHON is set) and runs ruff, mypy --strict, shellcheck and pytest.
# --slow adds the trainings that take minutes. As root on Debian, this also installs slurm-wlm and munge if they are missing,
# since the tests in tests/slurm start and stop a Slurm cluster.
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
export DEEPSPEAKER_TESTS_INSTALL=1  # slurm-wlm and munge, if apt-get and root permit it
python3 -m pytest ${slow[@]+"${slow[@]}"} "$@"
