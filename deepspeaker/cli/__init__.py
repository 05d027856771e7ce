"""The ``deepspeaker`` command."""

from __future__ import annotations

import sys

import click

from deepspeaker.cli import check, cuts, data_dirs, run_stage, score_files, stages  # noqa: F401 - these add the sub-commands
from deepspeaker.cli.options import commands
from deepspeaker.errors import InputError

__all__ = ["commands", "main"]


def main() -> None:
    """Runs the command; an error of the user's is one line on stderr and status 1, wrong usage status 2."""
    debug = "--debug" in sys.argv[1:]
    try:
        status = commands.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = 2
    except click.ClickException as error:
        print(f"deepspeaker: {' '.join(error.format_message().split())}; see --help", file=sys.stderr)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except (InputError, OSError) as error:
        if debug:
            raise
        print(f"deepspeaker: {error}", file=sys.stderr)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
