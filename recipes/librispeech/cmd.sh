# shellcheck shell=bash
# The launcher of all jobs: utils/run.py on this machine, or any program with the contract of Kaldi's run.pl.
export cmd=${cmd:-utils/run.py}
