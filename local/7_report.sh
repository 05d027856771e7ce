#!/usr/bin/env bash
# usage: local/7_report.sh data/C exp/E
#
# Stage 7: print the tables of results. They are also written to exp/E/RESULTS.md, the plots to exp/E/*.png, and everything
# together to the page exp/E/report.html.
declare -A default=()
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

# shellcheck disable=SC2086  # split into words
run_stage $cmd --follow true "$exp/log/report.log" deepspeaker report "${passed_on[@]}" --data-dir "$data" --exp-dir "$exp"
