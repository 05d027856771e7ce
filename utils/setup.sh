#!/usr/bin/env bash
# usage: utils/setup.sh [extras]        for example: utils/setup.sh demo,test
#
# Creates the Python environment .venv at the top of the project, with the versions of constraints.txt, unless it exists
# and is up to date. If two set-ups start at once, the second waits for the first. To use an environment of your own, set
# DEEPSPEAKER_PYTHON to its python or its folder. On a machine without an NVIDIA GPU, PyTorch comes from
# DEEPSPEAKER_TORCH_INDEX if that can be reached (default: PyTorch's index of CPU builds).
set -euo pipefail

die() { echo "setup.sh: $*" >&2; exit 1; }

extras=${1:-demo}
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
venv=$root/.venv

if [ -n "${DEEPSPEAKER_PYTHON:-}" ]; then
  python=$DEEPSPEAKER_PYTHON
  if [ -d "$python" ]; then python=$python/bin/python; fi
  # find_spec instead of import, which would take seconds at every stage.
  "$python" -c 'import sys
from importlib.util import find_spec
sys.exit(None in map(find_spec, "torch lhotse kaldiio soundfile pydantic click yaml polars onnx onnxruntime safetensors".split()))' 2>/dev/null ||
    die "DEEPSPEAKER_PYTHON=$DEEPSPEAKER_PYTHON: not a Python with torch, lhotse, kaldiio, soundfile, pydantic, click, pyyaml, polars, onnx, onnxruntime and safetensors; install them or unset the variable"
  exit 0
fi

# .setup_done holds the checksum of what was installed, then the extras, one a line.
checksum=$(cat "$root/constraints.txt" "$root/setup.cfg" | cksum)
is_complete() {
  local extra
  [ -x "$venv/bin/python" ] && [ "$(head -1 "$venv/.setup_done" 2>/dev/null)" = "$checksum" ] || return 1
  for extra in ${extras//,/ }; do grep -qx "$extra" "$venv/.setup_done" || return 1; done
}
if is_complete; then exit 0; fi

if command -v flock >/dev/null; then
  exec 7>>"$root/.venv.lock"
  flock -n 7 || { echo "setup.sh: another set-up is running, waiting for it" >&2; flock 7; }
  if is_complete; then exit 0; fi
fi

[ -f "$venv/.setup_done" ] || rm -rf "$venv"  # left by an interrupted set-up
PATH=${PATH//"$venv/bin:"/}  # do not create an environment from itself
hash -r
python=
for candidate in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || die "found no Python >= 3.10 with venv; install one (Debian: apt install python3-venv) or set DEEPSPEAKER_PYTHON"

version=$("$python" -c 'import platform; print(platform.python_version())')
log=$root/.venv.log
echo "setup.sh: creating .venv with Python $version (only once; 1 to 5 minutes, about 1.7 GB of disk; log: $log)" >&2
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || die "$python -m venv failed"

index=()
if ! ls /dev/nvidia[0-9]* >/dev/null 2>&1 && [ "$(uname -s)" = Linux ]; then
  url=${DEEPSPEAKER_TORCH_INDEX-https://download.pytorch.org/whl/cpu}
  if [ -n "$url" ] && "$venv/bin/python" -c "import urllib.request as u; u.urlopen('$url/torch/', timeout=5)" 2>/dev/null; then
    index=(--extra-index-url "$url")
  fi
fi
# Python compiles the modules that are used; pip would compile all of them, for most of a minute.
"$venv/bin/python" -m pip install --no-compile --disable-pip-version-check ${index[@]+"${index[@]}"} \
  -c "$root/constraints.txt" -e "${root}[train,$extras]" >"$log" 2>&1 ||
  { grep -i error "$log" | tail -3 >&2; die "pip failed, see $log; fix the error and start again"; }
{
  echo "$checksum"
  { [ ! -f "$venv/.setup_done" ] || tail -n +2 "$venv/.setup_done"; tr ',' '\n' <<<"$extras"; } | sort -u
} >"$venv/.setup_done.tmp"
mv "$venv/.setup_done.tmp" "$venv/.setup_done"
echo "setup.sh: done in $SECONDS s" >&2
