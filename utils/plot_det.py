#!/usr/bin/env python3
"""DET curves of score files, of any toolkit; --help tells more."""

import os
import sys
from pathlib import Path

program = Path(__file__).resolve().parent / "deepspeaker"
os.execv(program, [str(program), "plot-det", *sys.argv[1:]])
