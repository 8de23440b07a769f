#!/usr/bin/env bash
# Train under Slurm, one task a GPU. Further arguments go to tools/train.py.
set -euo pipefail

if [ $# -lt 4 ]; then
  echo "usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...]" \
    "$0 PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENT...]" >&2
  exit 2
fi

gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# SRUN_ARGS is several words.
read -ra srun_args <<<"${SRUN_ARGS:-}"

srun --partition="$1" --job-name="$2" \
  --ntasks="$gpus" \
  --gres="gpu:$gpus_per_node" \
  --ntasks-per-node="$gpus_per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  "${srun_args[@]}" \
  "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/train.py" "$3" \
  --work-dir "$4" --launcher slurm "${@:5}"
