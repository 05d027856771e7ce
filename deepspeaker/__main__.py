"""``python -m deepspeaker`` is the command."""

from deepspeaker.cli import main

main()
