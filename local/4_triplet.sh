#!/usr/bin/env bash
# usage: local/4_triplet.sh [--config FILE] [--set section.key=value] [--seed N] [--cmd "utils/run.py"] [--device auto|cpu|cuda]
#        [--nproc N] [--nnodes N] [--rdzv-endpoint HOST:PORT] data/C exp/E
#
# Stage 4: triplet training on cosine, from exp/E/softmax on, on data/C/train_nosil; exp/E/triplet gets the checkpoints,
# train.csv, training.png and TensorBoard scalars.
# A training that was killed goes on from its last epoch, one that was stopped from its last step.
options="device nproc nnodes rdzv-endpoint"
device=auto nproc=1 nnodes=1 rdzv_endpoint=''
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

lock "$exp"
uses "$data"
begin 4 "$exp/triplet" "${config_options[@]}" --section triplet --option seed="$seed" --after "$exp/softmax/.done.3" -- \
  --needs "$exp/triplet/checkpoint_last.pt" --clear "$exp/triplet"
if [ -t 2 ]; then progress=true; else progress=false; fi
# shellcheck disable=SC2046  # words
$cmd --follow true --requeue true --nodes "$nnodes" $(gpus "$nproc") "$exp/triplet/log/train.log" deepspeaker train triplet "${config_options[@]}" --seed "$seed" \
  --device "$device" --progress "$progress" --nproc "$nproc" --nnodes "$nnodes" --rdzv-endpoint "$rdzv_endpoint" \
  --data-dir "$data" --exp-dir "$exp"
finish
