"""From a planners.yaml file to Config: every problem at once, each with its line and its path."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from s3lora_serve.config.bounded_yaml import MAX_BYTES, OverLimit, read_nodes, values_of
from s3lora_serve.config.load_problems import Loc, listing
from s3lora_serve.config.load_rounds import sound_parts, touches
from s3lora_serve.config.removed import without_removed
from s3lora_serve.config.settings import ANY, Config
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from s3lora_serve.config.policy import PolicyConfig

# What else may be wrong with settings, found by a part that knows more of them: where, and in words.
Check = Callable[[Config], Iterable[tuple[Loc, str]]]


def load_config(path: Path, check: Check = lambda config: ()) -> Config:
    """Read and check a planners.yaml; nothing is started. Relative paths become relative to the file.

    ``check`` adds the problems that this part cannot know of. Raises ConfigError, whose message lists every
    problem with its line and dotted path.
    """
    try:
        _check_kind(path)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from error
    data, lines = _parse(path, text)
    problems: list[tuple[Loc, str | ErrorDetails]] = [
        (loc, f"given twice, again on line {line}; YAML would silently keep the last")
        for loc, line in lines.repeated
    ]
    config, gone = None, list[Loc]()
    given = without_removed(path, data, lines)
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        problems += [(tuple(e["loc"]), e) for e in error.errors()]
        config, gone, more = sound_parts(given, error)
        problems += more
    if config is not None:
        further = [*check(config), *_unclear_folders(config, path.parent)]
        config = _anchored(config, path.resolve().parent)
        further += _missing_folders(config)
        problems += [(loc, problem) for loc, problem in further if not touches(loc, gone)]
    if problems or config is None:
        raise ConfigError(listing(path, problems, lines))
    return config


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of planners.yaml, for editors and for checks without this package."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "planners.yaml"}


class _Lines(dict[Loc, int]):
    """Line number (from 1) of every key, and the keys given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.repeated: list[tuple[Loc, int]] = []


def _check_kind(path: Path) -> None:
    # Before it is opened: a pipe without a writer would be waited for without end.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"cannot read {path}: it is not a regular file")
    if status.st_size > MAX_BYTES:
        raise ConfigError(f"cannot read {path}: it has {status.st_size} bytes > {MAX_BYTES}")


def _parse(path: Path, text: str) -> tuple[Mapping[str, Any], _Lines]:
    lines = _Lines()
    try:
        node = read_nodes(text)
        _index(node, (), lines)  # before values are merged
        data = values_of(node)
    except OverLimit as error:
        raise ConfigError(f"{path}, line {error.line}: {error.problem}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"{path}{where}: not valid YAML: {getattr(error, 'problem', None) or error}"
        ) from error
    if not isinstance(data, Mapping):
        given = "is empty" if data is None else f"holds a {type(data).__name__}, not a mapping"
        raise ConfigError(f"{path} {given}", hint="start from one of the files in configs/")
    return data, lines


def _index(node: yaml.Node | None, at: Loc, lines: _Lines) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            if here in lines and key.tag != "tag:yaml.org,2002:merge":
                lines.repeated.append((here, key.start_mark.line + 1))
                continue
            lines.setdefault(here, key.start_mark.line + 1)
            _index(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            lines[(*at, position)] = value.start_mark.line + 1
            _index(value, (*at, position), lines)


def _is_local(source: str) -> bool:
    return "://" not in source


def _is_folder(base_model: str) -> bool:
    # By its first character, never by what happens to exist: a typo must not turn a folder into a download.
    return base_model.startswith((".", "/", "~"))


def _anchored(config: Config, folder: Path) -> Config:
    """The same settings with every relative path made absolute against ``folder``."""

    def anchor(text: str) -> str:
        return str((folder / Path(text).expanduser()).resolve())

    planners = {
        name: p.model_copy(
            update={
                "source": anchor(p.source) if _is_local(p.source) else p.source,
                "policy": p.policy and p.policy.with_files(anchor),
                "exam": p.exam and p.exam.with_files(anchor),
            }
        )
        for name, p in config.planners.items()
    }
    base, allow = config.base_model, config.sources.allow
    allowed = [anchor(each) if _is_local(each) and each != ANY else each for each in allow]
    return config.model_copy(
        update={
            "base_model": anchor(base) if _is_folder(base) else base,
            "planners": planners,
            "sources": config.sources.model_copy(update={"allow": allowed}),
            "policy": config.policy.with_files(anchor),
            "exam": config.exam.with_files(anchor),
            "store": config.store.model_copy(update={"path": Path(anchor(str(config.store.path)))}),
            "state": config.state.model_copy(
                update={
                    "path": Path(anchor(str(config.state.path))),
                    "head_file": config.state.head_file and Path(anchor(str(config.state.head_file))),
                }
            ),
        }
    )


def _unclear_folders(config: Config, folder: Path) -> Iterator[tuple[Loc, str]]:
    base = config.base_model
    if not _is_folder(base) and base != "demo" and (folder / base).is_dir():
        yield (
            ("base_model",),
            f"{base} is read as a Hugging Face id; for the folder write ./{base}",
        )


def _missing_folders(config: Config) -> Iterator[tuple[Loc, str]]:
    # Said now, in one list: otherwise it comes up one planner at a time, after the base model was prepared.
    if _is_folder(config.base_model) and not Path(config.base_model).is_dir():
        yield ("base_model",), f"there is no folder {config.base_model}"
    for name, planner in config.planners.items():
        if _is_local(planner.source) and not Path(planner.source).is_dir():
            yield ("planners", name, "source"), f"there is no folder {planner.source}"
        if planner.policy is not None:
            yield from _missing_evidence(planner.policy, ("planners", name, "policy"))
    yield from _missing_evidence(config.policy, ("policy",))


def _missing_evidence(policy: PolicyConfig, at: Loc) -> Iterator[tuple[Loc, str]]:
    for where, path in policy.files().items():
        if not Path(path).exists():
            yield (*at, *where), f"there is no {'folder' if 'alignment' in where else 'file'} {path}"
