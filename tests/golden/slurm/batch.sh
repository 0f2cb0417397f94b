#!/bin/bash

# Parameters
#SBATCH --array=0-2%3
#SBATCH --cpus-per-task=2
#SBATCH --error=/shared/study/queue/jobs/%A_%a_0_log.err
#SBATCH --job-name=finescale
#SBATCH --mem=12GB
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/study/queue/jobs/%A_%a_0_log.out
#SBATCH --partition=cpu
#SBATCH --signal=USR2@90
#SBATCH --time=90
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/study/queue/jobs/%A_%a_%t_log.out --error /shared/study/queue/jobs/%A_%a_%t_log.err python -u -m submitit.core._submit /shared/study/queue/jobs
