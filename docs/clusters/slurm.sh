#!/bin/bash
# One search on several nodes of a Slurm cluster:  sbatch slurm.sh
# The same command continues a search that was stopped; sacct shows its exit code (3: incomplete).
#SBATCH --job-name=fgaug
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:4
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
set -euo pipefail

# What to run: edit these, or set them before sbatch.
GRID=${GRID:-grid.yaml}
RUN=${RUN:-s3://bucket/runs/x}       # or a folder that all nodes share
VENV=${VENV:-$HOME/fgaug}            # seen by all nodes; where `pip install fgaug` went

export PATH="$VENV/bin:$PATH" OMP_NUM_THREADS=1
# Whoever reaches Ray's ports could run code as you: all its processes ask for this token.
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null
# Nodes need not start within Ray's 30 seconds.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))   # several jobs may share a node
ended=0
srun --kill-on-bad-exit=0 ray symmetric-run --address "$first:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats -- \
  fgaug search "$GRID" --out "$RUN" --address auto --retries 10 || ended=$?

# symmetric-run exits with 0 if Ray itself could not start: the run says whether all is done.
fgaug results "$RUN" --by arm
exit "$ended"
