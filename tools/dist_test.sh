#!/usr/bin/env bash
# Evaluate on several GPUs (or, without GPUs, CPU processes) of one or more
# machines. Further arguments go to tools/test.py.
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500]" \
    "$0 CONFIG CHECKPOINT GPUS [ARGUMENT...]" >&2
  exit 2
fi

"${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$3" \
  "$(dirname "${BASH_SOURCE[0]}")/test.py" "$1" "$2" \
  --launcher pytorch "${@:4}"
