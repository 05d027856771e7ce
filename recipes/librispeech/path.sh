# shellcheck shell=bash
# Sets PATH: the recipe's programs, then the Python environment that utils/setup.sh made or DEEPSPEAKER_PYTHON names.
_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
_python=${DEEPSPEAKER_PYTHON:-$_root/.venv/bin/python}
if [ -d "$_python" ]; then _python=$_python/bin/python; fi
PATH=$_root/utils:$(dirname "$_python"):$PATH
export PATH
unset _root _python
