#!/usr/bin/env python3
"""Write the pages of docs/reference that the code knows best: ``.venv/bin/python docs/make_reference.py``.

``tests/test_docs.py`` fails when a page is older than the code.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from deepspeaker import config, results
from deepspeaker.cli import commands

PROJECT = Path(__file__).resolve().parents[1]
REFERENCE = PROJECT / "docs" / "reference"
NOTE = "<!-- docs/make_reference.py writes this page; edit the code or that script instead. -->"


def table(headings: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; ``headings`` are separated by bars."""
    lines = [headings, " | ".join("---" for _ in headings.split("|"))]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def text(docstring: str | None) -> str:
    """Return a docstring as one paragraph of Markdown, in the words of JSON."""
    words = re.sub(r"`+", "`", " ".join((docstring or "").split()))
    words = words.replace("`CONDITION_DRAWS`", str(results.CONDITION_DRAWS)).replace("Results.", "")
    return re.sub(r"\bNone\b", "null", words)


# ---- configuration and results ---------------------------------------------------------------------------


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the pydantic model in an annotation such as ``list[Condition]``, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_of, typing.get_args(annotation))), None)


def kind(annotation: Any) -> str:
    """Return the type or the choices of a field in words."""
    if typing.get_origin(annotation) is typing.Annotated:
        return kind(typing.get_args(annotation)[0])
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if typing.get_origin(annotation) is list:
        return "list: " + kind(arguments[0])
    if typing.get_origin(annotation) is dict:
        return "object: " + kind(arguments[1])
    if arguments:
        return " or ".join(dict.fromkeys(" or ".join(map(kind, arguments)).split(" or ")))
    names = {"int": "integer", "float": "number", "str": "text", "bool": "true/false", "NoneType": "null"}
    names["JsonValue"] = "any value"
    name = getattr(annotation, "__name__", str(annotation))
    return f"[{name}](#{name.lower()})" if section_of(annotation) else names.get(name, name)


def limits(field: Any) -> str:
    """Return the bounds of a field, such as `` > 0``."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [f"{signs[name]} {getattr(one, name)}" for one in field.metadata for name in signs if hasattr(one, name)]
    return f" {', '.join(found)}" if found else ""


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the fields of a model. Pydantic would read them at every start of a command."""
    found = {}
    for base in model.__mro__[-2::-1]:
        if issubclass(base, BaseModel) and base is not BaseModel:
            for field, below in pairwise(ast.parse(inspect.getsource(base)).body[0].body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found[field.target.id] = ast.literal_eval(below.value)
    return found


def fields(model: type[BaseModel], prefix: str) -> Iterator[list[str]]:
    """Yield key, default, values and meaning of every field, sections inside included."""
    meaning = meanings(model)
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if inner and not isinstance(field.default, list):
            yield from fields(inner, f"{prefix}{name}.")
            continue
        if field.is_required():
            yield [f"`{prefix}{name}`", "-", kind(field.annotation), text(meaning.get(name))]
            continue
        default = field.default if field.default is not PydanticUndefined else field.default_factory()
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else "empty"
        shown = "-" if default is None else shown
        yield [f"`{prefix}{name}`", shown, kind(field.annotation) + limits(field), text(meaning.get(name))]


def configuration() -> str:
    """Return the page of all configuration keys."""
    page = f"""# Configuration keys

{NOTE}

A configuration is a YAML file, given with `--config`. It names only the keys that differ from the defaults below.
`--set section.key=value` overrides a key, for example `--set triplet.margin=0.2`. An unknown key is an error.
`utils/deepspeaker show-config --config conf/default.yaml` prints every key with the value in use.

"""
    for name, field in config.Config.model_fields.items():
        sections = {"": section_of(field.annotation)}
        if name == "model":
            sections = {" (rescnn)": config.ResCNNModel, " (gru)": config.GRUModel}
        for suffix, section in sections.items():
            assert section is not None
            page += f"## `{name}`{suffix}\n\n{text(inspect.getdoc(section))}\n\n"
            page += table("key | default | values | meaning", fields(section, f"{name}.")) + "\n"
    page += f"## Copy\n\n{text(inspect.getdoc(config.Copy))}\n\n"
    return page + table("key | default | values | meaning", fields(config.Copy, "")) + "\n"


def results_page() -> str:
    """Return the page of the keys of results.json."""
    page = f"""# results.json

{NOTE}

Stage 6 writes `exp/E/results.json`. Two runs with the same seed write the same bytes: the file has no times, paths or
host names. Rates and shares are fractions between 0 and 1. Costs in bits can be larger.
A key that is null was not measured, or does not apply. Later versions may add keys.

"""
    waiting, seen = [results.Results], set()
    while waiting:
        model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        page += f"## {'Top level' if model is results.Results else model.__name__}\n\n{text(inspect.getdoc(model))}\n\n"
        rows, meaning = [], meanings(model)
        for name, field in model.model_fields.items():
            rows.append([f"`{field.alias or name}`", kind(field.annotation), text(meaning.get(name))])
            inner = section_of(field.annotation)
            waiting += [inner] if inner else []
        page += table("key | type | meaning", rows) + "\n"
    return page


# ---- commands and options --------------------------------------------------------------------------------


def leaves(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield the name and the command of every sub-command."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def described(name: str, command: click.Command) -> str:
    """Return the section of one sub-command."""
    context = click.Context(command, info_name=name)
    program = PROJECT / "utils" / f"{name.replace('-', '_')}.py"
    links = sorted(path.name for path in program.parent.glob(f"{program.stem}.*") if path.name != program.name)
    shown = f"utils/{links[0] if links else program.name}" if program.is_file() else f"deepspeaker {name}"
    usage = " ".join(command.collect_usage_pieces(context))
    page = f"### `{shown}`\n\n{text(command.help)}\n\nArguments: `{usage}`\n\n"
    rows = []
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record:
            rows.append([f"`{record[0]}`", record[1]])
    return page + (table("option | meaning", rows) + "\n" if rows else "")


def commands_page() -> str:
    """Return the page of the programs in utils/ and of the ``deepspeaker`` command."""
    page = f"""# Commands

{NOTE}

Every command is a sub-command of `utils/deepspeaker`; `utils/deepspeaker NAME --help` shows its help. The programs in
`utils/` with Kaldi's names are links to sub-commands. `utils/deepspeaker --debug NAME ...` shows the traceback of an
error. Exit status: 0 for success, 1 for an error, 2 for wrong usage.

"""
    titles = {
        "voices": "Voices",
        "embed_files": "Embeddings of audio",
        "evaluate_model": "Test of a model",
        "score_files": "Score files",
        "data_dirs": "Kaldi data directories and tables",
        "cuts": "Lhotse CutSets",
        "configs": "Networks and configurations",
        "stages": "Stages",
    }
    for module, title in titles.items():
        found = [
            (name, command)
            for name, command in leaves(commands)
            if f"{command.callback.__module__}.".startswith(f"deepspeaker.cli.{module}.")
        ]
        page += f"## {title}\n\n" + "".join(described(name, command) for name, command in found)
    return page


def header_of(script: Path) -> str:
    """Return the comment at the top of a script, which ``--help`` prints."""
    lines = script.read_text(encoding="utf-8").splitlines()[1:]
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line[1:].removeprefix(" ") for line in lines[:end])


def options_page() -> str:
    """Return the page of the options of run.sh and of the stage scripts."""
    page = f"""# Options of run.sh and of the stages

{NOTE}

`--name value` and `--name=value` are equivalent. Boolean options need a value: `--overwrite true`. Relative paths are
looked up in your working directory, then in `recipes/librispeech`.

## run.sh

```text
{header_of(PROJECT / "recipes/librispeech/run.sh")}
```

## tables.sh

```text
{header_of(PROJECT / "recipes/librispeech/tables.sh")}
```

## Stage scripts

Each script also runs alone, from `recipes/librispeech`. In addition to the options below, each accepts

- `--config FILE` and `--set section.key=value`, as run.sh does (default: `conf/default.yaml`);
- `--cmd "PROGRAM OPTIONS"`, the launcher;
- `--if-needed true`, which skips the stage if it has finished with the same settings;
- `--overwrite true`, which replaces a network that was trained with other settings.

"""
    for script in sorted((PROJECT / "local").glob("[0-9]_*.sh")):
        page += f"### {script.name}\n\n```text\n{header_of(script)}\n```\n\n"
    return page


def pages() -> dict[Path, str]:
    """Return the content of every generated page."""
    made = {
        "configuration": configuration(),
        "results": results_page(),
        "commands": commands_page(),
        "options": options_page(),
    }
    return {REFERENCE / f"{name}.md": content.rstrip() + "\n" for name, content in made.items()}


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")
