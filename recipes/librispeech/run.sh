#!/usr/bin/env bash
# usage: run.sh [--stage N] [--stop-stage N] [options]
#
# Deep Speaker from speech to EER and minDCF. The first start makes the Python environment (.venv, some minutes).
# Without --stage, finished stages are skipped. With it, stages N to 7 run again; only --stage 3 or 4 trains a network again.
#
#   --corpus NAME               demo (default), librispeech, kaldi, lhotse
#   --corpus-dir DIR            librispeech: the folder that holds train-clean-100 and so on (else it is downloaded)
#                               kaldi: holds data directories train, test and, if there is one, dev
#                               lhotse: holds train_cuts.jsonl.gz, test_cuts.jsonl.gz and, if there is one, dev_cuts.jsonl.gz
#   --train-parts "A B", --dev-parts "...", --test-parts "..."      parts of LibriSpeech
#   --mini true                 mini LibriSpeech (0.5 GB), downloaded to data/mini_librispeech
#   --mirror URL                where LibriSpeech is downloaded from (default https://www.openslr.org/resources)
#   --config FILE               the experiment (default: conf/demo.yaml for demo, else conf/default.yaml)
#   --set section.key=value     overrides a key of it; may be repeated
#   --exp NAME                  the folder under exp/ (default: CORPUS_CONFIG)
#   --overwrite true            replaces a network in it that was trained with other settings
#   --seed N                    decides corpus, trial lists, weights and crops (default 0)
#   --nj N                      jobs of the array stages (default: the processors); changes no result
#   --cmd "PROGRAM OPTIONS"     the launcher: utils/run.py, utils/slurm.py, or one with the contract of Kaldi's run.pl
#   --device auto|cpu|cuda      where networks run
#   --max-skipped PERCENT       a stage stops when more of its items cannot be used (default 5)
#   --trials FILE               an additional trial list; may be repeated. --enrolment FILE: its enrolment models, as spk2utt
#   --allow-speaker-overlap true, --allow-pipes true                allow known test speakers, commands in wav.scp
#   --merge-chapters true       kaldi: speakers [lbi-]reader-chapter of Kaldi's LibriSpeech recipe become readers
#   --init-from CHECKPOINT      stage 3 starts from its weights, for fine-tuning; the speakers may be others
#   --nproc N, --nnodes N, --rdzv-endpoint HOST:PORT
#                               training on N processes (GPUs) of each of N machines; utils/slurm.py needs no address
set -euo pipefail
export LC_ALL=C
_from=$PWD _words=("$@") _script=$(readlink -f "${BASH_SOURCE[0]}")
cd "$(dirname "${BASH_SOURCE[0]}")"

. ./path.sh
. ./cmd.sh
declare -A default=(
  [stage]='' [stop_stage]=7 [corpus]=demo [corpus_dir]='' [train_parts]='' [dev_parts]='' [test_parts]='' [mini]=false
  [mirror]=https://www.openslr.org/resources [config]='' [exp]='' [overwrite]=false [seed]=0 [nj]=$(nproc) [cmd]=$cmd
  [device]=auto [max_skipped]=5 [enrolment]='' [allow_speaker_overlap]=false [allow_pipes]=false [merge_chapters]=false
  [init_from]='' [nproc]=1 [nnodes]=1 [rdzv_endpoint]=''
)
trials=()
. utils/parse_options.sh
[ $# -eq 0 ] || { echo "run.sh: unexpected argument $1; --help lists the options" >&2; exit 2; }
utils/setup.sh

# Refuses wrong options, completes names and paths.
plan=$(deepspeaker check-run --from "$_from" --cmd "$cmd" "${_words[@]}")
mapfile -t plan <<<"$plan"
corpus_dir=${plan[0]} parts=${plan[1]} config=${plan[2]} data=${plan[3]} exp=${plan[4]} init_from=${plan[5]:-}
enrolment=${plan[6]:-} trials=("${plan[@]:7}")
if [ "$corpus$corpus_dir$mini" = librispeechfalse ]; then  # what is downloaded is what is used
  train_parts=${train_parts:-train-clean-100} dev_parts=${dev_parts:-dev-clean} test_parts=${test_parts:-test-clean}
fi
if [ -n "$stage" ]; then if_needed=false; else if_needed=true; fi
common=(--config "$config" "${overrides[@]}" --cmd "$cmd" --if-needed "$if_needed")
# A finished network stays unless --stage 3 or 4 asks for another one, or --overwrite true replaces it.
training=(--if-needed "$([ "${stage:-0}" -ge 3 ] && echo false || echo true)" --overwrite "$overwrite" --device "$device"
  --nproc "$nproc" --nnodes "$nnodes" --rdzv-endpoint "$rdzv_endpoint" --seed "$seed")
export DEEPSPEAKER_RUN_PID=$$  # launchers end their jobs when this process is gone
echo "run.sh: corpus $corpus, configuration $config, data in $data, results in $exp"
runs() { [ "${stage:-0}" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

if runs 0; then  # demo: 142 synthetic voices; librispeech: 7 GB to download
  local/0_corpus.sh "${common[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" --parts "$parts" --mirror "$mirror" \
    --seed "$seed" --nj "$nj" "$data"
fi

if runs 1; then  # demo: 1,980 target and 62,640 nontarget trials in trials_all
  local/1_data.sh "${common[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" --train-parts "$train_parts" \
    --dev-parts "$dev_parts" --test-parts "$test_parts" --seed "$seed" --max-skipped "$max_skipped" \
    --allow-pipes "$allow_pipes" --merge-chapters "$merge_chapters" --allow-speaker-overlap "$allow_speaker_overlap" "$data"
fi

if runs 2; then
  if [ -d "$data/dev" ]; then dev=("$data/dev"); else dev=(); fi
  local/2_fbank.sh "${common[@]}" --nj "$nj" --max-skipped "$max_skipped" --allow-pipes "$allow_pipes" \
    "$data/train" "${dev[@]}" "$data/test"
fi

if runs 3; then  # demo: EER 29.60 % untrained, 3.60 % [1.95, 6.54] after softmax pre-training
  local/3_softmax.sh "${common[@]}" "${training[@]}" --init-from "$init_from" "$data" "$exp"
fi

if runs 4; then  # demo: EER 2.99 % [1.57, 5.63] after triplet training
  local/4_triplet.sh "${common[@]}" "${training[@]}" "$data" "$exp"
fi

if runs 5; then
  local/5_embed.sh "${common[@]}" --nj "$nj" --device "$device" "$data" "$exp"
fi

if runs 6; then
  local/6_score.sh "${common[@]}" --seed "$seed" --max-skipped "$max_skipped" "${trials[@]/#/--trials=}" \
    --enrolment "$enrolment" --allow-speaker-overlap "$allow_speaker_overlap" "$data" "$exp"
fi

if runs 7; then
  local/7_report.sh "${common[@]}" "$data" "$exp"
  deepspeaker summary "$PWD/$exp"
fi
