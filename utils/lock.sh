# shellcheck shell=bash
# To be sourced.
#
# lock FOLDER: only one run at a time may write there. run.sh has locked its exp folder already.
lock() {
  if [ "${DEEPSPEAKER_LOCKED:-}" = "$1" ] || ! command -v flock >/dev/null; then return; fi
  mkdir -p "$1"
  exec 8>>"$1/.lock"
  if ! flock -n 8; then
    local owner
    owner=$(cat "$1/.lock")
    # The jobs of a run that was killed need a moment to end.
    if kill -0 "${owner:-0}" 2>/dev/null && [ -n "$owner" ] || ! flock -w 15 8; then
      echo "${0##*/}: another run (process ${owner:-unknown}) is at work in $1; wait for it, or name another --exp" >&2
      exit 1
    fi
  fi
  echo $$ >"$1/.lock"
}
