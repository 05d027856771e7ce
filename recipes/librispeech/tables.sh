#!/usr/bin/env bash
# usage: tables.sh [--table N]... [options]
#
# Reproduce tables 1 to 11 and figure 4 of the Deep Speaker paper (arXiv 1705.02304v1), as far as the corpus allows. Everything
# that the tables need is run through run.sh, nothing twice; an interrupted run resumes. The result is in
# exp/tables_CORPUS: RESULTS.md, tables.html and tables.json.
#
#   --table N                 a table, 1 to 11; may be repeated (default: all; figure 4 belongs to table 5)
#   --corpus NAME, --corpus-dir DIR    as for run.sh (default: demo)
#   --phrase-corpus-dir DIR   table 9: Kaldi data directories train and test with a fixed phrase, and test/utt2phrase or utt2word
#   --other-corpus-dir DIR    table 10: Kaldi data directories train and test in another language
#   --seeds "0 1 2"           seeds of the trainings; data and trial lists have seed 0 (default: 0 for quick, 0 1 2 for full)
#   --size quick|full         tiny networks and few steps, or those of conf/default.yaml (default: quick for demo, else full)
#   --config FILE             the ResCNN, and epochs and steps of both networks (conf/librispeech.yaml: the paper's size, on a GPU)
#   --gru-config FILE         the GRU
#   --exp NAME                folder of the tables; experiments are exp/NAME_EXPERIMENT_SEED (default: tables_CORPUS)
#
# All other options are passed on to run.sh, such as --nj, --cmd, --device and --set.
set -euo pipefail
export LC_ALL=C
_from=$PWD _script=$(readlink -f "${BASH_SOURCE[0]}")
for _word in "$@"; do
  case $_word in --help | -h) sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$_script"; exit 0 ;; esac
done
cd "$(dirname "$_script")"
. ./path.sh
utils/setup.sh
exec deepspeaker tables --from "$_from" "$@"
