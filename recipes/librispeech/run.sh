#!/usr/bin/env bash
# usage: run.sh [options]
#
# Deep Speaker from speech to EER and minDCF. The first start makes the Python environment (.venv, some minutes).
#
# stages
#   0  corpus     demo: synthesises one (synthetic speech); librispeech: downloads, or takes --corpus-dir
#   1  data       Kaldi data directories, Lhotse manifests, trial lists      -> data/C
#   2  fbank      log-mel features, voice activity, normalised speech frames -> data/C/*_nosil
#   3  softmax    pre-training as a speaker classifier                       -> exp/E/softmax
#   4  triplet    triplet training on cosine                                 -> exp/E/triplet
#   5  embed      embeddings of the test utterances                          -> exp/E/SYSTEM/embeddings_test
#   6  score      trials into EER, minDCF, rank-1                            -> exp/E/results.json
#   7  report     tables, figures, one page with all                         -> exp/E/report.html
#
# options
#   --stage N, --stop-stage N   run stages N to N whatever is finished; without --stage, finished stages are skipped
#   --corpus NAME               demo (default), librispeech, kaldi, lhotse
#   --corpus-dir DIR            librispeech: the folder that holds train-clean-100 and so on
#                               kaldi: a folder with the data directories train, test and, if there is one, dev
#                               lhotse: a folder with train_cuts.jsonl.gz, test_cuts.jsonl.gz and, if there is one,
#                               dev_cuts.jsonl.gz
#   --train-parts "A B", --dev-parts "...", --test-parts "..."
#                               parts of LibriSpeech (default: all of its own that are there; of the net's train-clean-100,
#                               dev-clean and test-clean)
#   --mini true                 mini LibriSpeech (0.5 GB) from the net, in data/mini_librispeech
#   --mirror URL                where LibriSpeech is downloaded from (default https://www.openslr.org/resources)
#   --config FILE               the experiment (default: conf/demo.yaml for demo, else conf/default.yaml)
#   --set section.key=value     overrides a key of it; may come several times
#   --exp NAME                  the folder under exp/ (default: CORPUS_CONFIG)
#   --seed N                    decides corpus, trial lists, weights and crops (default 0)
#   --nj N                      jobs of the array stages (default: the processors); changes no result
#   --cmd "PROGRAM OPTIONS"     the launcher: utils/run.py, utils/slurm.py, or one with the contract of Kaldi's run.pl
#   --device auto|cpu|cuda      where networks run (default auto)
#   --max-skipped PERCENT       a stage stops when more of its items cannot be used (default 5)
#   --trials FILE               a trial list of your own, scored beside the others; may come several times
#   --enrolment FILE            the utterances of its enrolment models, as spk2utt (also: FILE.spk2utt beside the list)
#   --allow-speaker-overlap true
#                               goes on when test speakers are known from training, and says so in every result
#   --allow-pipes true          runs the commands that stand in wav.scp
#   --merge-chapters true       kaldi: speakers [lbi-]reader-chapter of Kaldi's LibriSpeech recipe become readers
#   --init-from CHECKPOINT      stage 3 starts from its weights, for fine-tuning; the speakers may be others
#   --nproc N, --nnodes N, --rdzv-endpoint HOST:PORT
#                               training on N processes of each of N machines (one process a GPU); with utils/slurm.py
#                               Slurm starts the machines' processes, and they need no address
#   --help                      this text
set -euo pipefail
export LC_ALL=C

from=$PWD
script_file=$(readlink -f "${BASH_SOURCE[0]}")
cd "$(dirname "${BASH_SOURCE[0]}")"
options="stage stop-stage corpus corpus-dir train-parts dev-parts test-parts mini mirror config set exp seed nj cmd device
max-skipped allow-pipes merge-chapters init-from nproc nnodes rdzv-endpoint
trials enrolment allow-speaker-overlap"
repeated=trials
stage='' stop_stage=7 corpus=demo corpus_dir='' train_parts='' dev_parts='' test_parts='' mini=false config='' exp=''
seed=0 nj=$(nproc) device=auto max_skipped=5 allow_pipes=false merge_chapters=false init_from='' nproc=1
nnodes=1 rdzv_endpoint='' trials=() enrolment='' allow_speaker_overlap=false
mirror=https://www.openslr.org/resources
. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

stop() { echo "run.sh: $2" >&2; exit "$1"; }
# A path that a user gives counts from where the user stands, else from this folder.
given_path() {
  if [ "$from" != "$PWD" ] && [ "${1#/}" = "$1" ] && [ -e "$from/$1" ]; then realpath "$from/$1"; else echo "$1"; fi
}

[ $# -eq 0 ] || stop 2 "unexpected argument $1; --help lists the options"
[ "${stage:-0}" -le 7 ] && [ "$stop_stage" -le 7 ] || stop 2 "--stage ${stage:-0} --stop-stage $stop_stage: stages run from 0 to 7"
[ "$stop_stage" -ge "${stage:-0}" ] || stop 2 "--stop-stage $stop_stage comes before --stage $stage"
case $device in auto | cpu | cuda) ;; *) stop 2 "--device $device is unknown; there are auto, cpu, cuda" ;; esac
case /$exp/ in *//* | */../*) [ -z "$exp" ] || stop 2 "--exp $exp: a name wanted, the folder is made under exp/" ;; esac
[ "$nnodes" = 1 ] || [ -n "$rdzv_endpoint" ] || [[ ${cmd%% *} = *slurm.py ]] || stop 2 "--nnodes $nnodes needs --rdzv-endpoint HOST:PORT, one of the machines"
if [ -n "$init_from" ]; then
  init_from=$(given_path "$init_from")
  [ -f "$init_from" ] || stop 1 "--init-from $init_from: no such checkpoint"
fi
own_lists=()
for list in ${trials[@]+"${trials[@]}"}; do
  list=$(given_path "$list")
  [ -f "$list" ] || stop 1 "--trials $list: no such trial list"
  own_lists+=(--trials "$list")
done
if [ -n "$enrolment" ]; then
  enrolment=$(given_path "$enrolment")
  [ ${#own_lists[@]} -gt 0 ] || stop 2 "--enrolment $enrolment is for lists that --trials names"
  [ -f "$enrolment" ] || stop 1 "--enrolment $enrolment: no such file"
fi
if [ -n "$corpus_dir" ]; then
  corpus_dir=$(given_path "$corpus_dir")
  [ -d "$corpus_dir" ] || stop 1 "--corpus-dir $corpus_dir: no such folder"
fi
case $corpus in
  demo) [ -z "$corpus_dir" ] || stop 2 "--corpus-dir is for librispeech, kaldi and lhotse; the demo corpus is made here" ;;
  librispeech) ;;
  kaldi) [ -n "$corpus_dir" ] || stop 2 "--corpus kaldi needs --corpus-dir DIR with data directories train and test" ;;
  lhotse) [ -n "$corpus_dir" ] || stop 2 "--corpus lhotse needs --corpus-dir DIR with {train,test}_cuts.jsonl.gz" ;;
  *) stop 2 "--corpus $corpus is unknown; there are demo, librispeech, kaldi, lhotse" ;;
esac
case $mini in
  true)
    [ "$corpus" = librispeech ] && [ -z "$corpus_dir$train_parts$dev_parts$test_parts" ] ||
      stop 2 "--mini true is for --corpus librispeech without --corpus-dir and without parts"
    ;;
  false) ;;
  *) stop 2 "--mini $mini: true or false is wanted" ;;
esac
if [ -z "$config" ]; then
  config=conf/default.yaml
  if [ "$corpus" = demo ]; then config=conf/demo.yaml; fi
fi
config=$(given_path "$config")
name=$corpus
if [ "$corpus" = kaldi ] || [ "$corpus" = lhotse ]; then name=$(basename "$(realpath "$corpus_dir")"); fi
if [ "$mini" = true ]; then name=mini_librispeech; fi
exp=exp/${exp:-${name}_$(basename "$config" .yaml)}
data=data/$name

utils/setup.sh
deepspeaker check-config --config "$config" ${overrides[@]+"${overrides[@]}"}

# One run at a time in an experiment; the jobs of a run that was killed end by themselves when they see it gone.
export DEEPSPEAKER_RUN_PID=$$
. utils/lock.sh
lock "$exp"
export DEEPSPEAKER_LOCKED=$exp
mkdir -p "$data"
uses "$data"

echo "run.sh: corpus $name, configuration $config, data in $data, results in $exp"
common=(--config "$config" ${overrides[@]+"${overrides[@]}"} --cmd "$cmd" --seed "$seed")
if [ -n "$stage" ]; then common+=(--if-needed false); else common+=(--if-needed true); fi
wanted() { [ "${stage:-0}" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

if wanted 0; then
  parts="${train_parts:-train-clean-100} ${dev_parts:-dev-clean} ${test_parts:-test-clean}"
  if [ "$mini" = true ]; then parts=mini; fi
  local/0_corpus.sh "${common[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" --nj "$nj" --parts "$parts" \
    --mirror "$mirror" "$data"
fi
if [ -z "$corpus_dir" ]; then
  corpus_dir=$data/corpus
  if [ "$corpus" = librispeech ]; then corpus_dir=$data/corpus/LibriSpeech; fi
fi
if wanted 1; then
  local/1_data.sh "${common[@]}" --corpus "$corpus" --corpus-dir "$corpus_dir" --train-parts "$train_parts" \
    --dev-parts "$dev_parts" --test-parts "$test_parts" --max-skipped "$max_skipped" --allow-pipes "$allow_pipes" \
    --merge-chapters "$merge_chapters" --allow-speaker-overlap "$allow_speaker_overlap" "$data"
fi
if wanted 2; then
  parts=("$data/train")
  if [ -d "$data/dev" ]; then parts+=("$data/dev"); fi
  local/2_fbank.sh "${common[@]}" --nj "$nj" --max-skipped "$max_skipped" --allow-pipes "$allow_pipes" \
    "${parts[@]}" "$data/test"
fi
processes=(--device "$device" --nproc "$nproc" --nnodes "$nnodes" --rdzv-endpoint "$rdzv_endpoint")
if wanted 3; then local/3_softmax.sh "${common[@]}" "${processes[@]}" --init-from "$init_from" "$data" "$exp"; fi
if wanted 4; then local/4_triplet.sh "${common[@]}" "${processes[@]}" "$data" "$exp"; fi
if wanted 5; then local/5_embed.sh "${common[@]}" --nj "$nj" --device "$device" "$data" "$exp"; fi
if wanted 6; then
  local/6_score.sh "${common[@]}" --max-skipped "$max_skipped" ${own_lists[@]+"${own_lists[@]}"} \
    --enrolment "$enrolment" --allow-speaker-overlap "$allow_speaker_overlap" "$data" "$exp"
fi
if wanted 7; then
  local/7_report.sh "${common[@]}" "$data" "$exp"
  deepspeaker summary "$PWD/$exp"
fi
