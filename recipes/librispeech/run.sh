#!/usr/bin/env bash
# usage: run.sh [--stage N] [--stop-stage N] [options]
#
# Run Deep Speaker from speech to EER and minDCF. The first run creates the Python environment .venv (1 to 5 minutes).
# Finished stages are skipped. With --stage N, stages N to 8 run again; a network is trained again only with --stage 3 or 4,
# or with --overwrite true.
#
# Corpus:
#   --corpus NAME               demo (default), librispeech, kaldi, lhotse or folder
#   --corpus-dir DIR            librispeech: the folder that contains train-clean-100 and so on (default: download it)
#                               kaldi: contains the data directories train, test and, optionally, dev
#                               lhotse: contains train_cuts.jsonl.gz, test_cuts.jsonl.gz and, optionally, dev_cuts.jsonl.gz
#                               folder: contains a folder with recordings for each speaker; or train, test and, optionally, dev,
#                               which contain these
#   --session-level N           folder: the folders N levels below the speaker are sessions (1: directly below)
#   --train-parts "A B"         librispeech: parts to train on (default: all; for a download train-clean-100)
#   --dev-parts "A B"           librispeech: parts for development (default: all; for a download dev-clean)
#   --test-parts "A B"          librispeech: parts to test on (default: all; for a download test-clean)
#   --mini true                 librispeech: download mini LibriSpeech (0.5 GB) to data/mini_librispeech
#   --mirror URL                librispeech: where to download from (default: https://www.openslr.org/resources)
#   --merge-chapters true       kaldi: treat all chapters of a reader (ids reader-chapter or lbi-reader-chapter) as one speaker
#   --allow-pipes true          kaldi, lhotse: run the commands that stand in for audio files, as in wav.scp
#   --allow-speaker-overlap true    allow test speakers that are also in training
#   --data NAME                 folder of the data in data/ (default: the name of the corpus)
#   --train-speakers-share N    train on a share of the training speakers, such as 0.25, in data/NAME_speakers25
#   --train-utterances-share N  train on a share of the utterances of each training speaker, such as 0.5
#   --max-skipped PERCENT       stop a stage if more of its items cannot be used (default: 5)
#
# Experiment:
#   --config FILE               configuration (default: conf/demo.yaml for demo, else conf/default.yaml)
#   --set section.key=value     override a configuration key; may be repeated
#   --exp NAME                  folder of the experiment in exp/ (default: DATA_CONFIG)
#   --overwrite true            replace a network that was trained with other settings
#   --init-from CHECKPOINT      start stage 3 from these weights, to fine-tune a network; the speakers may differ
#   --pretraining false         leave stage 3 out: triplet training starts from --init-from, or from fresh weights
#   --trials FILE               an additional trial list; may be repeated
#   --enrolment FILE            enrolment models of these lists, as a spk2utt file
#   --ivector true              also train and test i-vectors, the paper's baseline
#   --posteriors PATH           frame posteriors for the i-vectors: an scp, or a folder with posteriors.scp
#   --fuse exp/OTHER            export the networks of two experiments as one model
#   --licence NAME              licence of the exported model, for its card
#   --source TEXT               a source of the training data, for the card of the exported model; may be repeated
#   --seed N                    seed of corpus, trial lists, weights and crops (default: 0)
#   --data-seed N               another seed for corpus, development speakers, trial lists and copies, to compare trainings on them
#
# Jobs:
#   --nj N                      number of parallel jobs in stages 0, 2 and 5 (default: the number of processors, in stages 2
#                               and 5 fewer if there is little speech); the results do not depend on it
#   --cmd "PROGRAM OPTIONS"     launcher: utils/run.py, utils/slurm.py, or any program that works like Kaldi's run.pl
#   --device auto|cpu|cuda      where networks run (default: auto)
#   --nproc N                   training processes (GPUs) per machine (default: 1)
#   --nnodes N                  machines that train together (default: 1)
#   --rdzv-endpoint HOST:PORT   address of one of these machines; not needed with utils/slurm.py
set -euo pipefail
export LC_ALL=C
_from=$PWD _words=("$@") _script=$(readlink -f "${BASH_SOURCE[0]}")
cd "$(dirname "${BASH_SOURCE[0]}")"

. ./path.sh
. ./cmd.sh
declare -A default=(
  [stage]='' [stop_stage]=8 [corpus]=demo [corpus_dir]='' [train_parts]='' [dev_parts]='' [test_parts]='' [mini]=false
  [mirror]=https://www.openslr.org/resources [config]='' [exp]='' [overwrite]=false [seed]=0 [nj]='' [cmd]=$cmd
  [device]=auto [max_skipped]=5 [enrolment]='' [allow_speaker_overlap]=false [allow_pipes]=false [merge_chapters]=false
  [init_from]='' [pretraining]=true [data]='' [train_speakers_share]=1 [train_utterances_share]=1 [ivector]=false [posteriors]=''
  [session_level]='' [fuse]='' [licence]='' [data_seed]='' [nproc]=1 [nnodes]=1 [rdzv_endpoint]=''
)
trials=() source=()
. utils/parse_options.sh
[ $# -eq 0 ] || { echo "run.sh: unexpected argument $1; --help lists the options" >&2; exit 2; }
utils/setup.sh

# Check the options; complete names and paths.
plan=$(deepspeaker check-run --from "$_from" --cmd "$cmd" "${_words[@]}")
mapfile -t plan <<<"$plan"
corpus_dir=${plan[0]} parts=${plan[1]} config=${plan[2]} data=${plan[3]} exp=${plan[4]} init_from=${plan[5]:-}
enrolment=${plan[6]:-} share=${plan[7]:-} posteriors=${plan[8]:-} copies=${plan[9]:-} trials=("${plan[@]:10}")
if [ "$corpus$corpus_dir$mini" = librispeechfalse ]; then  # use exactly the downloaded parts
  train_parts=${train_parts:-train-clean-100} dev_parts=${dev_parts:-dev-clean} test_parts=${test_parts:-test-clean}
fi
if [ -n "$stage" ]; then if_needed=false; else if_needed=true; fi
common=(--config "$config" "${overrides[@]}" --cmd "$cmd" --if-needed "$if_needed")
# A finished network is kept unless --stage 3, --stage 4 or --overwrite true asks for a new one.
training=(--if-needed "$([ "${stage:-0}" -ge 3 ] && echo false || echo true)" --overwrite "$overwrite" --device "$device"
  --nproc "$nproc" --nnodes "$nnodes" --rdzv-endpoint "$rdzv_endpoint" --seed "$seed")
export DEEPSPEAKER_RUN_PID=$$  # launchers end their jobs when this process has ended
echo "run.sh: corpus $corpus, configuration $config, data in $data, results in $exp"
runs() { [ "${stage:-0}" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

if runs 0; then  # demo: 142 synthetic voices; librispeech: a download of 7 GB
  local/0_corpus.sh "${common[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" --parts "$parts" --mirror "$mirror" \
    --seed "${data_seed:-$seed}" --nj "$nj" "$data"
fi

if runs 1; then  # demo: 1,980 target and 62,640 nontarget trials in trials_all
  local/1_data.sh "${common[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" --train-parts "$train_parts" \
    --dev-parts "$dev_parts" --test-parts "$test_parts" --seed "${data_seed:-$seed}" --max-skipped "$max_skipped" \
    --allow-pipes "$allow_pipes" --merge-chapters "$merge_chapters" ${session_level:+--session-level "$session_level"} \
    --allow-speaker-overlap "$allow_speaker_overlap" "$data"
fi

if runs 2; then
  if [ -d "$data/dev" ]; then dev=("$data/dev"); else dev=(); fi
  if [ -n "$copies" ]; then  # augment.copies of train, and conditions.copies of test
    copies=$(deepspeaker make-copies --config "$config" "${overrides[@]}" --seed "${data_seed:-$seed}" "$data")
  fi
  mapfile -t copies <<<"$copies"
  local/2_fbank.sh "${common[@]}" --nj "$nj" --max-skipped "$max_skipped" --allow-pipes "$allow_pipes" \
    "$data/train" "${dev[@]}" "$data/test" ${copies:+"${copies[@]}"}
  if [ -n "$share" ]; then
    local/2_share.sh "${common[@]}" --train-speakers-share "$train_speakers_share" \
      --train-utterances-share "$train_utterances_share" "$data" "$share"
  fi
fi
data=${share:-$data}

if runs 5 && [ "$ivector" = true ]; then  # complain before the networks are trained
  deepspeaker ivector check --config "$config" "${overrides[@]}" --posteriors "$posteriors" "$data" >/dev/null
fi

if runs 3 && [ "$pretraining" = true ]; then  # demo: EER 35.81 % untrained, 4.22 % [2.26, 7.72] after softmax pre-training
  local/3_softmax.sh "${common[@]}" "${training[@]}" --init-from "$init_from" "$data" "$exp"
fi

if runs 4; then  # demo: EER 3.28 % [1.59, 6.67] after triplet training
  if [ "$pretraining" = true ]; then start=(); else start=(--pretraining false --init-from "$init_from"); fi
  local/4_triplet.sh "${common[@]}" "${training[@]}" "${start[@]}" "$data" "$exp"
fi

if runs 5; then
  local/5_embed.sh "${common[@]}" --nj "$nj" --device "$device" "$data" "$exp"
  if [ "$ivector" = true ]; then
    local/5_ivector.sh "${common[@]}" --seed "$seed" --nj "$nj" --posteriors "$posteriors" --max-skipped "$max_skipped" \
      --allow-pipes "$allow_pipes" "$data" "$exp"
  fi
fi

if runs 6; then
  local/6_score.sh "${common[@]}" --seed "$seed" --max-skipped "$max_skipped" "${trials[@]/#/--trials=}" \
    --enrolment "$enrolment" --allow-speaker-overlap "$allow_speaker_overlap" "$data" "$exp"
fi

if runs 7; then
  local/7_report.sh "${common[@]}" "$data" "$exp"
fi

if runs 8; then
  local/8_export.sh "${common[@]}" --licence "$licence" "${source[@]/#/--source=}" --fuse "$fuse" "$data" "$exp"
fi

if runs 7 || runs 8; then
  deepspeaker summary "$PWD/$exp"
fi
