# shellcheck shell=bash
# Put the recipe's programs and the Python environment (.venv, or that of DEEPSPEAKER_PYTHON) on PATH.
_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
_python=${DEEPSPEAKER_PYTHON:-$_root/.venv/bin/python}
if [ -d "$_python" ]; then _python=$_python/bin/python; fi
PATH=$_root/utils:$(dirname "$_python"):$PATH
export PATH
# Let glibc use huge pages, which saves page faults in training (docs/performance.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
unset _root _python
