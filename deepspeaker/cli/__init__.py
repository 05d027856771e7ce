"""The ``deepspeaker`` command."""

from __future__ import annotations

import sys

import click

from deepspeaker.cli import (  # noqa: F401 - to add the commands
    check,
    configs,
    cuts,
    data_dirs,
    embed_files,
    evaluate_model,
    score_files,
    stages,
    tables,
    voices,
)
from deepspeaker.cli.options import commands
from deepspeaker.cli.run_stage import StageCommand, quote_for_launcher, settings_of
from deepspeaker.errors import InputError

__all__ = ["StageCommand", "commands", "main", "quote_for_launcher", "settings_of"]


def main() -> None:
    """Run the command, and report an error of the user in one line on stderr.

    The exit status is then 1, or 2 for wrong usage.
    """
    debug = "--debug" in sys.argv[1:]
    try:
        status = commands.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = 2
    except click.ClickException as error:
        print(f"deepspeaker: {' '.join(error.format_message().split()).rstrip('.')}; see --help", file=sys.stderr)
        status = 2
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except ModuleNotFoundError as error:
        if debug or (error.name or "deepspeaker").startswith("deepspeaker"):
            raise
        print(f"deepspeaker: the package {error.name} is missing; run: pip install deepspeaker[train]", file=sys.stderr)
        status = 1
    except (InputError, OSError) as error:
        if debug:
            raise
        print(f"deepspeaker: {error}", file=sys.stderr)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
