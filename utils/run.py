#!/usr/bin/env python3
r"""Run jobs on this machine and write their logs, as Kaldi's run.pl does.

usage: run.py [options] [NAME=1:N] LOG command arguments...

    run.py exp/log/sum.log sha256sum data/wav.scp
    run.py --max-jobs-run 4 JOB=1:8 exp/log/sort.JOB.log sort data/JOB.txt \| uniq -c \> data/JOB.count

The command runs in bash. As with run.pl, bash gets a word without white space unchanged, so \|, \>, \; and \&\&
work. A word with white space is put between double quotes (bash still expands $VARIABLE in it), or between
single quotes if it contains a double quote. run.pl breaks a word that contains white space and both kinds of
quotes; run.py does not.

NAME=1:N runs the command once for each number. NAME is any identifier; NAME=2:5 and NAME=3 work too. The number
replaces NAME in LOG and in the command. With more than one job, LOG must contain NAME. The folder of LOG is
created if needed. The log begins with the command and the time, then holds stdout and stderr of the command,
and ends with

    # Accounting: time=S threads=T
    # Ended (code C) at DATE, elapsed time S seconds

If signal K ended the job, the last line has "code 128+K; signal K". If run.py stopped the job, the line has the
signal that run.py sent, and the job's exit code if it was not 0.

options:
  --max-jobs-run N, -tc N  jobs at a time (default: the number of processors; with --gpu, as many as the GPUs allow)
  --num-threads T          threads of a job, for the log only (default 1)
  --gpu N                  GPUs for each job (default 0); sets CUDA_VISIBLE_DEVICES
  --pick all|failed|incomplete
                           which jobs to run, by the last line of their old logs (default all), as in run.pl.
                           failed: all jobs whose log does not end with "# Ended (code 0)".
                           incomplete: jobs without a log, or whose log has no end. Jobs that failed are not run
                           again, but the exit status is still 1.
  --follow true|false      also copy the output of a single job to stdout and stderr while it runs (default false).
                           The log then leaves out text that carriage returns overwrote. If the job fails after it
                           has written to stderr, run.py adds no message.
  --help                   print this text
--name=value works too. -V and --verbose, and any other option with a value (--mem 4G, --config FILE, --nodes N,
--requeue true, -l ARG, -sync y, -pe smp N) are accepted and ignored, so the same line works with every
launcher.

Exit status: 0 if all jobs ended with code 0; 1 if some did not, or a log cannot be written; 2 for wrong usage;
128+K if signal K (Ctrl-C, TERM, HUP) stopped run.py. A stopped run.py ends its jobs with all their processes:
by SIGTERM (SIGINT after Ctrl-C), and by SIGKILL after 5 seconds or at a second signal. It also stops, with
status 143, when the process whose number is in the environment variable DEEPSPEAKER_RUN_PID has ended. The jobs
end even if run.py is killed by SIGKILL. Jobs inherit open file descriptors, so a lock of the caller lasts as
long as they do.
"""

import sys

from launchers import run_local, start

if __name__ == "__main__":
    sys.exit(start(run_local, sys.argv[1:], __doc__))
