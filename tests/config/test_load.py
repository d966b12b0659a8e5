"""A planners.yaml becomes Config, or one error that lists everything wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3lora_serve.config import load_config
from s3lora_serve.errors import ConfigError

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"


@pytest.fixture
def write(tmp_path: Path):
    """Write a planners.yaml and return its path."""

    def _write(text: str) -> Path:
        path = tmp_path / "planners.yaml"
        path.write_text(text)
        return path

    return _write


def problems(path: Path) -> list[str]:
    """The lines of the one error that ``path`` is refused with."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    first, *rest = caught.value.message.splitlines()
    assert first == f"{path} has {len(rest)} problem{'s' if len(rest) > 1 else ''}:"
    return [line.strip() for line in rest]


def test_the_default_policy_is_the_papers(write):
    """Without a policy, modules are scored with mas-svd and the top ten are pruned."""
    policy = load_config(write(GOOD)).policy_of("math")
    assert (
        policy.scorer,
        policy.top,
        policy.threshold,
        policy.adaptive,
        policy.action,
    ) == ("mas-svd", 10, None, None, "prune")


def test_a_planners_policy_replaces_the_fleets_as_a_whole(write):
    """A planner that only names an action gets the default rule, not the fleet's threshold."""
    config = load_config(
        write(GOOD + "  code: {source: hf://o/c, policy: {action: observe}}\npolicy: {threshold: 0.5}\n")
    )
    assert config.policy_of("math").threshold == 0.5
    assert (config.policy_of("code").top, config.policy_of("code").threshold) == (10, None)


def test_paths_are_relative_to_the_file(write, tmp_path, monkeypatch):
    """Folder sources, a folder base model, the store and the state are found from anywhere."""
    for folder in ("base", "adapters/math", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    path = write(
        "base_model: ./base\nplanners:\n  math: {source: adapters/math}\nstore: {path: store}\n"
        "state: {path: var/state.db}\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(Path("..") / path.name)
    assert config.base_model == str(tmp_path / "base")
    assert config.planners["math"].source == str(tmp_path / "adapters/math")
    assert config.store.path == tmp_path / "store"
    assert config.state.path == tmp_path / "var/state.db"
    assert config.state.admin_file == tmp_path / "var/admin.json"


@pytest.mark.parametrize("source", ["demo://x", "hf://org/name@v1", "s3://bucket/key", "https://host/x.zip"])
def test_a_source_with_a_scheme_is_left_as_it_is(write, source):
    """Only local folders are looked for; a URL is whatever its file system makes of it."""
    assert load_config(write(GOOD.replace("hf://org/math@v1", source))).planners["math"].source == source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "planer: 1\n", "line 4, planer: unknown key; did you mean planners?"),
        (
            GOOD + "engine: {max_lora_ranks: 8}\n",
            "line 4, engine.max_lora_ranks: unknown key; did you mean max_lora_rank?",
        ),
        (
            GOOD.replace("v1}", "v1, polcy: {top: 1}}"),
            "line 3, planners.math.polcy: unknown key; did you mean policy?",
        ),
        (
            GOOD.replace("v1}", "v1, policy: {adaptive: {zz: 1}}}"),
            "line 3, planners.math.policy.adaptive.zz: unknown key; did you mean z?",
        ),
        (GOOD + "port: 80\n", "line 4, port: unknown key here; did you mean server.port?"),
        (
            GOOD + "store: {qqq: 80}\n",
            "line 4, store.qqq: unknown key; the nearest known one is path (known: path)",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(write, text, expected):
    """A mistyped or misplaced key is refused, never ignored, and the message says what was probably meant."""
    assert problems(write(text)) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "policy: {top: -1}\n", "line 4, policy.top: should be greater than or equal to 0, not -1"),
        (GOOD + "policy: {top: yes}\n", "line 4, policy.top: should be a valid integer, not True"),
        (
            GOOD.replace("v1}", "v1, sha256: 12}"),
            "line 3, planners.math.sha256: should be text, in quotes if YAML reads it otherwise, not 12",
        ),
        (
            GOOD + "policy: {threshold: .nan}\n",
            "line 4, policy.threshold: should be a finite number, not nan",
        ),
        (
            GOOD + "policy: {top: 1, threshold: 2}\n",
            "line 4, policy: give one of top, threshold, adaptive, validated, not top and threshold",
        ),
        (
            GOOD + "policy: {action: reject}\n",
            "line 4, policy: action reject with top would refuse every adapter; use threshold or adaptive",
        ),
        (
            GOOD + "engine: {max_lora_rank: 24}\n",
            "line 4, engine.max_lora_rank: should be 1, 8, 16, 32, 64, 128, 256, 320 or 512, not 24",
        ),
        (
            GOOD + "engine: {extra_args: {max-loras: 9}}\n",
            "line 4, engine.extra_args: max-loras is not allowed; set engine.max_loras",
        ),
        (
            GOOD + "engine: {extra_args: {trust_remote_code: true}}\n",
            "line 4, engine.extra_args: trust_remote_code is not allowed; a base model must not bring code",
        ),
        (
            GOOD + "engine: {extra_args: {data-parallel-size-local: 2}}\n",
            "line 4, engine.extra_args: data-parallel-size-local is not allowed; an adapter would be proved"
            " on one rank only, and others would answer",
        ),
        (
            GOOD + "engine: {extra_args: {kv_transfer_config: {}}}\n",
            "line 4, engine.extra_args: kv_transfer_config is not allowed; a store of keys and values beside"
            " the engine's may mix adapters up (vllm#44250)",
        ),
        (
            GOOD + "server: {allow_fields: [priority, cache_salt]}\n",
            "line 4, server.allow_fields.1: should be 'priority', 'vllm_xargs', 'kv_transfer_params' or"
            " 'ec_transfer_params', not 'cache_salt'",
        ),
        (
            GOOD.replace("v1}", "v1, pinned: true}")
            + "  code: {source: hf://o/c, pinned: true}\nengine: {max_loras: 2}\n",
            "engine.max_loras is 2 but 2 planners are pinned, and one slot must be left to load into;"
            " raise engine.max_loras to at least 3, or pin fewer",
        ),
        (
            GOOD + "admin: {port: 8000}\n",
            "admin.port is 8000, and so is server.port; operators need a separate port",
        ),
        (
            GOOD + "rollback: {requests: 10}\n",
            "line 4, rollback: min_requests is 20 > requests 10: nothing would be judged",
        ),
        (
            GOOD + "rollback: {error_rate: 5}\n",
            "line 4, rollback.error_rate: should be less than 1, not 5",
        ),
        (
            GOOD + "swap: {drain_second: 5}\n",
            "line 4, swap.drain_second: unknown key; did you mean drain_seconds?",
        ),
        (
            GOOD.replace("math:", "Math:"),
            "line 2, planners: planner name 'Math': use at most 63 of a-z, 0-9, '.', '_' and '-',"
            " starting with a letter or digit",
        ),
        (
            GOOD.replace("math:", "no:"),
            "line 2, planners: YAML reads one of its keys as False; put that key in quotes",
        ),
        (
            GOOD.replace("org/model", "a b"),
            "line 1, base_model: 'a b' is neither 'demo', a Hugging Face id (org/name)"
            " nor a folder (./name, /name)",
        ),
        ("planners:\n  math: {source: hf://o/m}\n", "base_model: is required"),
        ("base_model: gpt2\nplanners: {}\n", "line 2, planners: is empty; at least one entry is needed"),
        ("base_model: gpt2\nplanners: [a]\n", "line 2, planners: should be a mapping, not ['a']"),
        (
            GOOD + "store: {path: a}\nserver: {port: 1}\nstore: {path: b}\n",
            "line 4, store: given twice, again on line 6; YAML would silently keep the last",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_limit(write, text, expected):
    """The message carries the line, the dotted path, what is allowed and what was given."""
    assert problems(write(text)) == [expected]


def test_all_problems_come_at_once_in_the_order_of_the_file(write):
    """One run reports every problem of a file."""
    found = problems(write(GOOD + "server: {port: 70000}\nengine: {max_lora: 1, dtype: int4}\nextra: 1\n"))
    assert [line.split(":")[0] for line in found] == [
        "line 4, server.port",
        "line 5, engine.dtype",
        "line 5, engine.max_lora",
        "line 6, extra",
    ]


def test_missing_folders_are_named_before_anything_starts(write, tmp_path):
    """A local base model or source that does not exist is refused, and never looked up on a hub instead."""
    assert problems(write("base_model: ./base\nplanners:\n  math: {source: adapters/math}\n")) == [
        f"line 1, base_model: there is no folder {tmp_path / 'base'}",
        f"line 3, planners.math.source: there is no folder {tmp_path / 'adapters/math'}",
    ]


def test_an_id_that_is_also_a_folder_is_refused(write, tmp_path):
    """What a base model means must not depend on which folders happen to exist."""
    (tmp_path / "org/model").mkdir(parents=True)
    assert problems(write(GOOD)) == [
        "line 1, base_model: org/model is read as a Hugging Face id; for the folder write ./org/model"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: [\n", "line 2, column 1: not valid YAML: expected the node content"),
        (b"a:\n\tb: 1\n", "line 2, column 1: not valid YAML: found character '\\t'"),
        (b"", "is empty"),
        (b"- a\n", "holds a list, not a mapping"),
        (b"a: 2026-13-45\n", "not valid YAML: month must be in 1..12"),
        (b"\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_what_is_not_a_mapping_is_refused(tmp_path, content, reason):
    """A file that is not a YAML mapping says so, with the place where reading stopped."""
    path = tmp_path / "planners.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert reason in caught.value.message
    assert str(path) in caught.value.message


def test_a_missing_file_is_refused(tmp_path):
    """The path and the system's reason are named."""
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file or directory"):
        load_config(tmp_path / "absent.yaml")


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    """A named pipe is not waited for: it may have no writer; a folder is named as what it is not, too."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert caught.value.message == f"cannot read {path}: it is not a regular file"


def test_a_file_too_large_is_refused_unread(write):
    """No planners.yaml has a megabyte."""
    with pytest.raises(ConfigError, match="bytes > 1048576"):
        load_config(write(GOOD + "#" * 2**20))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("planners: &p {a: *p}\n", "line 1: nested deeper than 32 levels, or an alias that holds itself"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested deeper than 32 levels"),
        (
            "a0: &a0 [x]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
            "over 20000 values, aliases written out",
        ),
    ],
    ids=["self", "deep", "wide"],
)
def test_a_file_that_unfolds_without_end_is_refused(write, text, reason):
    """Aliases to themselves, nesting without end and aliases of aliases end in a message, and soon."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(text))
    assert reason in caught.value.message


def test_an_alias_that_ends_is_read(write):
    """What YAML has aliases for stays possible: one policy, merged into two planners."""
    config = load_config(
        write(
            "base_model: gpt2\nplanners:\n  a: &a {source: hf://o/a, policy: {top: 3}}\n"
            "  b: {<<: *a, source: hf://o/b}\n"
        )
    )
    assert (config.planners["b"].source, config.policy_of("b").top) == ("hf://o/b", 3)


@pytest.mark.parametrize("escape", ["\\e[31m", "\\ud800", "\\0"])
@pytest.mark.parametrize("key", ["base_model_revision", "store"])
def test_a_text_holds_no_control_characters(write, key, escape):
    """YAML's escapes can write what steers a terminal or is no character at all: refused, with its line."""
    value = f'"a{escape}"' if key == "base_model_revision" else f'{{path: "a{escape}"}}'
    with pytest.raises(ConfigError) as caught:
        load_config(write(f"{GOOD}{key}: {value}\n"))
    assert "line 4: the character '\\" in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", "0123abc"])
def test_a_revision_is_a_commit_or_the_name_of_one(write, revision):
    """Names of branches and tags, and commits, are taken as they are."""
    assert load_config(write(f"{GOOD}base_model_revision: {revision!r}\n")).base_model_revision == revision


@pytest.mark.parametrize("revision", ["", "a b", "-x", "v1;ls", "é"])
def test_a_revision_of_other_characters_is_refused(write, revision):
    """What no commit, tag or branch is called is a mistake."""
    (problem,) = problems(write(f"{GOOD}base_model_revision: {revision!r}\n"))
    assert problem.startswith("line 4, base_model_revision: should match pattern")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("engine: fake\n", "engine"),
        ("engine: vllm\n", "engine"),
        ("engine: {kind: fake, max_loras: 2}\n", "engine.kind"),
        ("engine: {fake: true}\n", "engine.fake"),
    ],
)
def test_the_kind_of_engine_is_not_a_setting(write, text, where):
    """A file that chose a fake engine could be served by mistake: it is said where the choice is made."""
    assert problems(write(GOOD + text)) == [
        f"line 4, {where}: which engine serves is not set here: start s3lora-serve with --engine, and leave"
        " this out"
    ]
