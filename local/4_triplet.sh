#!/usr/bin/env bash
# usage: local/4_triplet.sh [--config FILE] [--set section.key=value] [--seed N] [--cmd "utils/run.py"] [--device auto|cpu|cuda]
#        [--init-from CHECKPOINT] [--pretraining false] [--nproc N] [--nnodes N] [--rdzv-endpoint HOST:PORT] data/C exp/E
#
# Stage 4: train the network of exp/E/softmax with the triplet loss on cosine similarity, on data/C/train_nosil.
# exp/E/triplet gets the same files as exp/E/softmax. An interrupted training resumes.
# --init-from starts from the weights of a checkpoint instead, to fine-tune a network with the triplet loss alone, and
# --pretraining false from fresh ones. Then exp/E has no network of stage 3, and exp/E/untrained keeps the network before
# training.
declare -A default=([device]=auto [nproc]=1 [nnodes]=1)
# shellcheck source=utils/stage.sh
. "$(dirname "$0")/../utils/stage.sh"
arguments_are "data/C exp/E" "$@"
data=$1 exp=$2

# shellcheck disable=SC2046,SC2086  # split into words
run_stage $cmd --follow true --requeue true --nodes "$nnodes" $(gpus "$nproc") "$exp/triplet/log/train.log" \
  deepspeaker train triplet "${configuration[@]}" "${passed_on[@]}" --device "$device" --nproc "$nproc" --nnodes "$nnodes" \
    --progress "$progress" --data-dir "$data" --exp-dir "$exp"
