#!/usr/bin/env python3
"""Run the subcommand of deepspeaker that is named like this file. The other names are links to this file."""

import os
import sys
from pathlib import Path

program = Path(__file__).resolve().parent / "deepspeaker"
os.execv(program, [str(program), Path(sys.argv[0]).stem.replace("_", "-"), *sys.argv[1:]])
