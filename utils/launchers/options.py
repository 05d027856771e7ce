"""The command line of a launcher: [options] [NAME=1:N] LOG command arguments..."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from launchers.messages import PROGRAM, LauncherError, print_message


@dataclass
class Options:
    """A parsed command line."""

    name: str = ""  # JOB of JOB=1:N
    first: int = 1
    last: int = 1
    log: str = ""
    words: list[str] = field(default_factory=list)  # the command, word by word
    max_jobs_run: int = 0  # 0: as many as the machine allows
    threads: int = 1
    gpu: int = 0
    pick: str = "all"
    follow: bool = False
    pairs: list[tuple[str, str]] = field(default_factory=list)  # every option that has a value, in order

    @property
    def command(self) -> str:
        """The command for bash."""
        return " ".join(quote(word) for word in self.words)

    @property
    def number_of_jobs(self) -> int:
        """Number of jobs in NAME=1:N."""
        return self.last - self.first + 1

    @property
    def logs(self) -> str:
        """Name of the log or logs, for messages."""
        if self.name:
            return self.log.replace(self.name, str(self.first) if self.number_of_jobs == 1 else "*")
        return self.log


def quote(word: str) -> str:
    """Quote a word for bash as run.pl does: only if it contains white space."""
    if re.fullmatch(r"\S+", word, re.ASCII):
        return word
    if '"' not in word:
        return f'"{word}"'
    return "'" + word.replace("'", "'\\''") + "'"  # run.pl does not escape ', which breaks the word


def parse_number(option: str, value: str, minimum: int) -> int:
    """Return the value of an option that takes a whole number."""
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < minimum:
        raise LauncherError(f"{option} must be a whole number, at least {minimum}, not '{value}'")
    return int(value)


def parse_choice(option: str, value: str, choices: tuple[str, ...]) -> str:
    """Return the value of an option that takes one of a few words."""
    if value not in choices:
        raise LauncherError(f"{option} must be one of {', '.join(choices)}, not '{value}'")
    return value


def parse_option(options: Options, words: list[str]) -> None:
    """Remove an option and its values from the front of ``words``, and store them."""
    option = words.pop(0)
    if option == "-V":
        return
    if option == "--verbose":
        if words and re.fullmatch(r"true|false|[0-9]+", words[0]):
            words.pop(0)
        return
    if option.startswith("--") and "=" in option:
        option, value = option.split("=", 1)
    elif words:
        value = words.pop(0)
        if value.startswith("--"):
            print_message(f"warning: '{value}' is read as the value of {option}; did you forget its value?")
        if option == "-pe" and words:
            words.pop(0)
    else:
        raise LauncherError(f"{option} needs a value, then LOG and a command (see {PROGRAM} --help)")
    if option in ("--max-jobs-run", "-tc"):
        options.max_jobs_run = parse_number(option, value, 1)
    elif option == "--num-threads":
        options.threads = parse_number(option, value, 1)
    elif option == "--gpu":
        options.gpu = parse_number(option, value, 0)
    elif option == "--pick":
        options.pick = parse_choice(option, value, ("all", "failed", "incomplete"))
    elif option == "--follow":
        options.follow = parse_choice(option, value, ("true", "false")) == "true"
    options.pairs.append((option, value))


def parse_job_range(options: Options, text: str) -> None:
    """Store NAME=1:N or NAME=K."""
    match = re.fullmatch(r"([A-Za-z_]\w*)=([0-9]{1,9})(?::([0-9]{1,9}))?", text, re.ASCII)
    if match is None:
        raise LauncherError(f"bad job range '{text}': write NAME=1:N (or ./{text} if it is the name of a log)")
    if options.name:
        raise LauncherError(f"second job range '{text}': give only one")
    options.name, options.first, options.last = match[1], int(match[2]), int(match[3] or match[2])
    if not 1 <= options.first <= options.last:
        raise LauncherError(f"bad job range '{text}': the first number must be at least 1 and not above the last")


def parse(arguments: list[str], usage: str | None) -> Options:
    """Parse the command line.

    Parameters
    ----------
    arguments
        The words after the program's name.
    usage
        The text that --help prints.

    Raises
    ------
    LauncherError
        The command line is wrong.
    SystemExit
        After --help.
    """
    options, words = Options(), list(arguments)
    while words:
        if words[0] in ("-h", "--help"):
            print((usage or "").strip())
            raise SystemExit(0)
        if words[0].startswith("-"):
            parse_option(options, words)
        elif re.match(r"[A-Za-z_]\w*=[^/]*$", words[0], re.ASCII) and not words[0].endswith(".log"):
            parse_job_range(options, words.pop(0))
        else:
            break
    if not words or not words[0]:
        raise LauncherError(f"no LOG given: usage is {PROGRAM} [options] [NAME=1:N] LOG command arguments...")
    options.log = words.pop(0)
    if not words:
        raise LauncherError(f"no command given after the log '{options.log}' (see {PROGRAM} --help)")
    options.words = words
    if options.last > options.first and options.name not in options.log:
        raise LauncherError(f"several jobs cannot share the log '{options.log}': put {options.name} into its name")
    if options.last > options.first and options.follow:
        raise LauncherError("--follow true needs a single job: leave it out, or run one job")
    return options


def start(launch: Callable[[Options], int], arguments: list[str], usage: str | None) -> int:
    """Parse the command line, launch the jobs and return the exit status. Print a LauncherError as one line."""
    try:
        return launch(parse(arguments, usage))
    except LauncherError as error:
        print_message(str(error))
        return error.status
