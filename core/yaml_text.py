"""YAML in and out without a change: a text that is written is read back the same."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

# In plain text and in single quotes YAML takes these for the ends of lines and folds
# them; PyYAML writes them there as they are.
_FOLDED = frozenset("\x85\u2028\u2029")


class YamlDumper(yaml.SafeDumper):
    """PyYAML's safe dumper, except that every text it writes is read back the same."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if _FOLDED.isdisjoint(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


YamlDumper.add_representer(str, _represent_text)


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader, except that a date stays the text that it is written as."""


YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def shipped_yaml(package: str, file: str) -> Any:
    """Return what is written in a YAML file of a package of ours.

    Read in C where PyYAML has it: ten times as fast, and every command waits for it.
    """
    text = resources.files(package).joinpath(file).read_text("utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read_yaml(text: str) -> Any:
    """Return what is written in YAML.

    Raises
    ------
    ValueError
        If it is none, or beyond what can be read; the message is one line.
    """
    try:
        return yaml.load(text, Loader=YamlLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except RecursionError:
        raise ValueError("its brackets or indents are nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(str(error).splitlines()[0].split(";")[0]) from None
