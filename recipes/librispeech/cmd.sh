# shellcheck shell=bash
# The launcher of all jobs: utils/run.py on this machine, "utils/slurm.py --mem 4G" on a cluster (see docs/launchers.md), or any
# program that works like Kaldi's run.pl.
export cmd=${cmd:-utils/run.py}
