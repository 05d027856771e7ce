#!/usr/bin/env bash
# usage: local/3_softmax.sh [--config FILE] [--set section.key=value] [--seed N] [--cmd "utils/run.py"] [--device auto|cpu|cuda]
#        [--init-from CHECKPOINT] [--nproc N] [--nnodes N] [--rdzv-endpoint HOST:PORT] data/C exp/E
#
# Stage 3: pre-train a network as a classifier of the speakers in data/C/train_nosil.
# exp/E/softmax gets checkpoint_last.pt, checkpoint_best.pt, checkpoint_average.pt, train.csv, training.png and TensorBoard
# scalars. exp/E/untrained keeps the network before training. An interrupted training resumes.
# --init-from starts from the weights of a checkpoint instead of fresh ones.
declare -A default=([device]=auto [nproc]=1 [nnodes]=1)
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

# shellcheck disable=SC2046,SC2086  # split into words
run_stage $cmd --follow true --requeue true --nodes "$nnodes" $(gpus "$nproc") "$exp/softmax/log/train.log" \
  deepspeaker train softmax "${configuration[@]}" "${passed_on[@]}" --device "$device" --nproc "$nproc" --nnodes "$nnodes" \
    --progress "$progress" --data-dir "$data" --exp-dir "$exp"
