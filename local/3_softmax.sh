#!/usr/bin/env bash
# usage: local/3_softmax.sh [--config FILE] [--set section.key=value] [--seed N] [--cmd "utils/run.py"] [--device auto|cpu|cuda]
#        [--init-from CHECKPOINT] [--nproc N] [--nnodes N] [--rdzv-endpoint HOST:PORT] data/C exp/E
#
# Stage 3: softmax pre-training of a network with fresh weights (kept in exp/E/untrained) on data/C/train_nosil;
# exp/E/softmax gets checkpoint_last.pt, checkpoint_best.pt, checkpoint_average.pt, train.csv, training.png, TensorBoard scalars.
# A training that was killed goes on from its last epoch, one that was stopped from its last step.
# With --init-from it starts from the weights of a checkpoint.
options="device init-from nproc nnodes rdzv-endpoint"
device=auto init_from='' nproc=1 nnodes=1 rdzv_endpoint=''
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

lock "$exp"
uses "$data"
after=(--after "$data/train/.done.2")
if [ -d "$data/dev_nosil" ]; then after+=(--after "$data/dev/.done.2"); fi
given=()
if [ -n "$init_from" ]; then
  [ -f "$init_from" ] || { echo "3_softmax.sh: --init-from $init_from: no such checkpoint" >&2; exit 1; }
  after+=(--option init-from="$(sha256sum <"$init_from")")
  given=(--init-from "$init_from")
fi
begin 3 "$exp/softmax" "${config_options[@]}" --section model --section softmax --option seed="$seed" "${after[@]}" -- \
  --needs "$exp/softmax/checkpoint_last.pt" --needs "$exp/untrained/checkpoint_last.pt" \
  --clear "$exp/softmax" --clear "$exp/untrained"
if [ -t 2 ]; then progress=true; else progress=false; fi
# shellcheck disable=SC2046  # words
$cmd --follow true --requeue true --nodes "$nnodes" $(gpus "$nproc") "$exp/softmax/log/train.log" deepspeaker train softmax "${config_options[@]}" --seed "$seed" \
  --device "$device" --progress "$progress" ${given[@]+"${given[@]}"} --nproc "$nproc" --nnodes "$nnodes" \
  --rdzv-endpoint "$rdzv_endpoint" --data-dir "$data" --exp-dir "$exp"
finish
