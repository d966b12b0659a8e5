"""Policies that refer to files: what may be said of them, and where the files are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from s3lora_serve.config import PolicyConfig, load_config
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.resolve import to_policy
from s3lora_serve.spectral.prune_policy import Alignment, AnomalyBar, PrunePolicy
from s3lora_serve.spectral.scorers import NEEDS_ALIGNMENT, SCORERS
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"
SWEEP = "{sweep: run, task: tasks, floor: 0.95}"


@pytest.fixture
def load(tmp_path: Path):
    """Load this text from a folder that has ``run``, ``benign.json`` and the model ``before``."""
    for name in ("run", "before"):
        (tmp_path / name).mkdir()
    (tmp_path / "benign.json").touch()

    def _load(policy: str, text: str = GOOD):
        path = tmp_path / "planners.yaml"
        path.write_text(f"{text}policy: {policy}\n")
        return load_config(path)

    return _load


def problems(load, policy: str) -> list[str]:
    """The lines of the one error that the policy is refused with."""
    with pytest.raises(ConfigError) as caught:
        load(policy)
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_the_settings_know_every_scorer_and_which_need_checkpoints():
    """The core's table and the settings, which must not import it, say the same."""
    assert set(get_args(PolicyConfig.model_fields["scorer"].annotation)) == set(SCORERS)
    for name in SCORERS:
        alignment = {"base": "org/base"} if name in NEEDS_ALIGNMENT else None
        assert PolicyConfig(scorer=name, alignment=alignment).scorer == name


def test_paths_of_evidence_are_relative_to_the_file(load, tmp_path, monkeypatch):
    """In the fleet's policy and in a planner's own; a model by its id stays one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    own = "{scorer: safelora, alignment: {base: ./before, aligned: org/chat}}"
    config = load(
        f"{{validated: {SWEEP}, anomaly: {{reference: benign.json}}}}",
        GOOD + f"  code: {{source: hf://o/c, policy: {own}}}\n",
    )
    assert config.policy.validated.sweep == str(tmp_path / "run")
    assert config.policy.anomaly.reference == str(tmp_path / "benign.json")
    assert config.planners["code"].policy.alignment.base == str(tmp_path / "before")
    assert config.planners["code"].policy.alignment.aligned == "org/chat"
    assert config.planners["math"].policy is None


def test_settings_become_the_policy_that_they_say(load, tmp_path):
    """Every field arrives, the defaults of both types agree, and from there it is JSON and back."""
    first = to_policy(
        load(
            "{validated: {sweep: run, task: t, floor: 1, utility: meteor},"
            " anomaly: {reference: benign.json, max: 2, action: reject}}"
        ).policy
    )
    assert first == PrunePolicy(
        rule=Validated(str(tmp_path / "run"), "t", 1.0, "meteor"),
        anomaly=AnomalyBar(str(tmp_path / "benign.json"), 2.0, "reject"),
    )
    second = to_policy(
        load(
            "{scorer: e-diem, top: 3, alignment: {base: o/b, base_revision: v1, aligned: o/c,"
            " aligned_revision: v2}, anomaly: {reference: benign.json}}"
        ).policy
    )
    assert second.alignment == Alignment("o/b", "o/c", "v1", "v2")
    assert second.anomaly == AnomalyBar(str(tmp_path / "benign.json"))
    for policy in (first, second):
        assert PrunePolicy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            f"{{top: 3, validated: {SWEEP}}}",
            "line 4, policy: give one of top, threshold, adaptive, validated, not top and validated",
        ),
        ("{validated: {task: t, floor: 1}}", "line 4, policy.validated.sweep: is required"),
        ("{validated: {sweep: run, floor: 1}}", "line 4, policy.validated.task: is required"),
        ("{validated: {sweep: run, task: t}}", "line 4, policy.validated.floor: is required"),
        (
            "{validated: {sweep: run, task: t, floor: 95}}",
            "line 4, policy.validated.floor: should be less than or equal to 1, not 95",
        ),
        (
            "{validated: {sweep: run, task: t, floor: 1, utility: loss}}",
            "line 4, policy.validated.utility: should be 'valid', 'tool_choice', 'rouge_l' or 'meteor',"
            " not 'loss'",
        ),
        (
            "{validated: {sweep: run, task: t, flor: 1, floor: 1}}",
            "line 4, policy.validated.flor: unknown key; did you mean floor?",
        ),
        (
            "{scorer: e-diem}",
            "line 4, policy: scorer e-diem compares with what alignment changed; set alignment.base to the"
            " model before it was aligned",
        ),
        (
            "{scorer: svd, alignment: {base: o/b}}",
            "line 4, policy: alignment is for the scorers e-diem and safelora; svd reads none",
        ),
        (
            "{scorer: safelora, alignment: {aligned: o/b}}",
            "line 4, policy.alignment.base: is required",
        ),
        (
            "{scorer: safelora, alignment: {base: o/b, aligned_revision: v1}}",
            "line 4, policy.alignment: aligned_revision belongs to aligned; the served model has"
            " base_model_revision",
        ),
        (
            "{anomaly: {reference: benign.json, max: 0}}",
            "line 4, policy.anomaly.max: should be greater than 0, not 0",
        ),
        ("{anomaly: {max: 2}}", "line 4, policy.anomaly.reference: is required"),
        (
            "{anomaly: {reference: benign.json, action: prune}}",
            "line 4, policy.anomaly.action: should be 'observe' or 'reject', not 'prune'",
        ),
    ],
)
def test_a_policy_that_says_too_little_or_too_much_is_refused(load, policy, expected):
    """With its line, its path and what is missing."""
    assert problems(load, policy) == [expected]


def test_missing_files_are_named_before_anything_starts(load, tmp_path):
    """All at once, in the fleet's policy and in a planner's own; ids of models are not looked for."""
    own = "{scorer: safelora, alignment: {base: ./gone, aligned: o/c}}"
    with pytest.raises(ConfigError) as caught:
        load(
            "{validated: {sweep: nowhere, task: t, floor: 1}, anomaly: {reference: none.json}}",
            GOOD + f"  code: {{source: hf://o/c, policy: {own}}}\n",
        )
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == [
        f"line 4, planners.code.policy.alignment.base: there is no folder {tmp_path / 'gone'}",
        f"line 5, policy.validated.sweep: there is no file {tmp_path / 'nowhere'}",
        f"line 5, policy.anomaly.reference: there is no file {tmp_path / 'none.json'}",
    ]


def test_reject_goes_with_a_sweep():
    """It refuses what a sweep would prune: that is no bar that every adapter is over."""
    given = {"sweep": "run", "task": "t", "floor": 1.0}
    assert PolicyConfig(validated=given, action="reject").action == "reject"
