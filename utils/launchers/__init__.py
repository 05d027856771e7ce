"""Launchers: they run the jobs of the recipe and write a log for each, as Kaldi's run.pl does.

See docs/launchers.md. The package needs the standard library only; utils/run.py and utils/slurm.py are its programs.

- ``messages``: errors and lines on stderr
- ``options``: the command line
- ``processes``: process groups, signals, and the guardian that ends jobs when their launcher is killed
- ``jobs``: one job and its log, the choice of jobs by --pick, the final report
- ``local``: jobs on this machine
- ``sbatch``: options for sbatch, and Slurm's other commands
- ``slurm``: jobs as a Slurm job array
- ``on_node``: what Slurm starts on a node for each job of the array
"""

from launchers.local import run_local
from launchers.on_node import run_on_node
from launchers.options import start
from launchers.slurm import ON_NODE, run_slurm

__all__ = ["ON_NODE", "run_local", "run_on_node", "run_slurm", "start"]
