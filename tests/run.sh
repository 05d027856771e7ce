#!/usr/bin/env bash
# usage: tests/run.sh [--slow] [arguments of pytest]
#
# Creates the environment (.venv, unless DEEPSPEAKER_PYTHON is set) and runs ruff, shellcheck, mypy --strict and pytest. Its
# four processes keep two processors busy, since many tests wait. --slow adds the trainings that take minutes. As root on
# Debian, this also installs slurm-wlm, munge and chromium if they are missing, for the tests that use a real Slurm and a
# real browser.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

slow=()
if [ "${1:-}" = --slow ]; then
  slow=(--run-slow)
  shift
fi
tests/install_packages.sh &
utils/setup.sh demo,test
python=${DEEPSPEAKER_PYTHON:-.venv/bin/python}
if [ -d "$python" ]; then python=$python/bin/python; fi
PATH=$(cd "$(dirname "$python")" && pwd):$PATH
export PATH

wait  # for the packages
{
  ruff check .
  shellcheck recipes/librispeech/*.sh local/*.sh utils/*.sh utils/deepspeaker tests/*.sh tests/slurm/*.sh .ci/run
  mypy
} &
python3 -m pytest -n 4 --dist loadgroup ${slow[@]+"${slow[@]}"} "$@"
wait $!  # for ruff, shellcheck and mypy
