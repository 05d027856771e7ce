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
      local mend="wait for it"
      case $1 in exp/*) mend="$mend, or name another --exp" ;; esac
      echo "${0##*/}: another run (process ${owner:-unknown}) is at work in $1; $mend" >&2
      exit 1
    fi
  fi
  echo $$ >"$1/.lock"
}

# uses DATA: while this run goes on, no other one may make the corpus' data anew (stages 0 to 2). All runs on it share the
# lock, on descriptor 9; a stage that writes turns it into one of its own while it does (mark begin --writes 9).
uses() {
  if [ "${DEEPSPEAKER_USES:-}" = "$1" ] || [ ! -d "$1" ] || ! command -v flock >/dev/null; then return; fi
  exec 9>>"$1/.users"
  flock -s -w 15 9 || { echo "${0##*/}: another run is making $1; wait for it" >&2; exit 1; }
  export DEEPSPEAKER_USES=$1
}

# shared_again: the writing is done.
shared_again() {
  if [ -n "${DEEPSPEAKER_USES:-}" ]; then flock -s 9; fi
}
