#!/usr/bin/env python3
r"""Run jobs by Slurm and write their logs, with the contract of utils/run.py and Kaldi's slurm.pl.

usage: slurm.py [options] [NAME=1:N] LOG command arguments...

    slurm.py --mem 2G exp/log/sum.log sha256sum data/wav.scp
    slurm.py --max-jobs-run 4 JOB=1:8 exp/log/sort.JOB.log sort data/JOB.txt \| uniq -c \> data/JOB.count

Words, NAME, LOG and the form of the logs are those of run.py (see run.py --help). The jobs become one job array
of sbatch and run in the current folder. The nodes must see this folder, this program and its Python under the
same paths. slurm.py waits for the jobs. Messages of Slurm itself go to the folder q/ beside LOG; it is removed
if all jobs succeed.

options:
  --config FILE            how options become options of sbatch (default: conf/slurm.conf), in the format of Kaldi's
                           slurm.pl
  --mem M, --gpu N, --num-threads T, --time T, and whatever else FILE names
                           as FILE says; an option that FILE does not name is ignored
  --max-jobs-run N, -tc N  jobs at a time (default: no limit)
  --nodes N                run the command on N nodes at the same time, once on each, by srun. PET_RDZV_ENDPOINT holds
                           the address where the nodes meet, as torchrun expects
  --requeue true|false     shortly before the time limit, send the job SIGTERM so that it can save, and requeue it. Its
                           log continues, also after a preemption or a node failure. FILE sets how long before
  --pick all|failed|incomplete, --follow true|false, --help
                           as in run.py
-p PARTITION and other short options are passed on to sbatch; -V, -l, -pe and -sync of Grid Engine are ignored.

Exit status: 0 if all jobs ended with code 0; 1 if some did not, a log cannot be written or sbatch refuses; 2
for wrong usage; 128+K if signal K (Ctrl-C, TERM, HUP) stopped slurm.py; 143 if the process DEEPSPEAKER_RUN_PID
has ended. A stopped slurm.py cancels its jobs and notes it in their logs. The jobs are cancelled even if
slurm.py is killed by SIGKILL.
"""

import sys

from launchers import ON_NODE, run_on_node, run_slurm, start

if __name__ == "__main__":
    if sys.argv[1:2] == [ON_NODE]:  # Slurm runs this, once for each job
        sys.exit(start(run_on_node, sys.argv[2:], __doc__))
    sys.exit(start(run_slurm, sys.argv[1:], __doc__))
