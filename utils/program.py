#!/usr/bin/env python3
"""The sub-command of deepspeaker that has the name by which this file is called; the other names are links to it."""

import os
import sys
from pathlib import Path

program = Path(__file__).resolve().parent / "deepspeaker"
os.execv(program, [str(program), Path(sys.argv[0]).stem.replace("_", "-"), *sys.argv[1:]])
