"""planners.yaml read again: what needs a restart is told, and nothing of it is passed over in silence."""

from __future__ import annotations

import pytest

from s3lora_serve.config import Config, load_config
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.reload import read_again

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"
# What is added to the file, and the settings that are then said to need a restart.
EDITS = {
    "base_model_revision": ("base_model_revision: main\n", "base_model_revision"),
    "guard": ("guard: {action: observe, seconds: 5}\n", "guard.action, guard.seconds"),
    "exam": ("exam: {action: observe, attacks: 50}\n", "exam.action, exam.attacks"),
    "limits": ("limits: {max_files: 3}\n", "limits.max_files"),
    "engine": (
        "engine: {max_loras: 5, extra_args: {seed: 1}}\n",
        "engine.max_loras, engine.extra_args.seed",
    ),
    "server": (
        "server: {max_concurrent: 3, header_seconds: 4}\n",
        "server.max_concurrent, server.header_seconds",
    ),
    "plans": ("plans: {max_steps: 3}\n", "plans.max_steps"),
    "store": ("store: {path: elsewhere}\n", "store.path"),
    "sources": ("sources: {allow: [any]}\n", "sources.allow"),
    "swap": ("swap: {trial: false}\n", "swap.trial"),
    "rollback": ("rollback: {requests: 50}\n", "rollback.requests"),
    "slots": ("slots: {max_waiting: 3}\n", "slots.max_waiting"),
    "admin": ("admin: {port: 9001}\n", "admin.port"),
    "state": ("state: {path: elsewhere.db}\n", "state.path"),
}


@pytest.mark.parametrize("section", sorted(EDITS))
def test_every_setting_that_needs_a_restart_is_named(section, tmp_path):
    """An edit that would have no effect is refused, whichever section it is in, and named in full."""
    path = tmp_path / "planners.yaml"
    path.write_text(GOOD)
    running = load_config(path)
    assert list(read_again(path, running)) == ["math"]
    edit, settings = EDITS[section]
    path.write_text(GOOD + edit)
    with pytest.raises(ConfigError) as caught:
        read_again(path, running)
    assert sorted(caught.value.message.partition(": ")[2].partition(" changed,")[0].split(", ")) == sorted(
        settings.split(", ")
    )
    assert "which only a restart can do; nothing was applied" in caught.value.message


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (
            "math: {source: hf://o/a}",
            "math: {source: hf://o/a, guard: {action: observe}}",
            "planners.math.guard",
        ),
        (
            "math: {source: hf://o/a}",
            "math: {source: hf://o/a, exam: {action: observe}}",
            "planners.math.exam",
        ),
        (
            "math: {source: hf://o/a, guard: {action: observe}}",
            "math: {source: hf://o/b}",
            "planners.math.guard",
        ),
        (
            "math: {source: hf://o/a}",
            "math: {source: hf://o/a}\n  new: {source: hf://o/b, guard: {}}",
            "planners.new.guard",
        ),
        ("math: {source: hf://o/a}", "math: {source: hf://o/b}\n  new: {source: hf://o/b}", None),
        (
            "math: {source: hf://o/a, guard: {}}\n  old: {source: hf://o/b, guard: {}}",
            "math: {source: hf://o/a, guard: {}}",
            None,
        ),
    ],
)
def test_a_guard_of_a_planner_is_changed_by_a_restart(before, after, named, tmp_path):
    """Judges are made at the start: another guard is refused by name, whichever way it changed.

    A planner that is added with the fleet's guard, or removed with its own, needs no restart.
    """
    path = tmp_path / "planners.yaml"
    path.write_text(f"base_model: org/model\nplanners:\n  {before}\n")
    running = load_config(path)
    path.write_text(f"base_model: org/model\nplanners:\n  {after}\n")
    if named is None:
        assert "math" in read_again(path, running)
        return
    with pytest.raises(ConfigError, match=f": {named} changed, which only a restart can do"):
        read_again(path, running)


def test_a_setting_that_was_taken_out_is_named_too(tmp_path):
    """Back to the default is a change as well; what stands in both is not named."""
    path = tmp_path / "planners.yaml"
    path.write_text(GOOD + "server: {max_concurrent: 3, port: 7000}\n")
    running = load_config(path)
    path.write_text(GOOD + "server: {port: 7000}\n")
    with pytest.raises(ConfigError, match=r": server\.max_concurrent changed,"):
        read_again(path, running)


def test_every_section_is_tried():
    """A new section is among them, or is one that an apply carries out."""
    assert set(EDITS) | {"base_model", "planners", "policy"} == set(Config.model_fields)
