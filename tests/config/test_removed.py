"""What a planners.yaml must not hold, or need not hold any more: each is told with its line."""

from __future__ import annotations

import pytest

from s3lora_serve.config import PlansConfig, SlotsConfig, load_config
from s3lora_serve.errors import ConfigError

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"


@pytest.fixture
def path(tmp_path):
    """Where the planners.yaml is."""
    return tmp_path / "planners.yaml"


def test_a_setting_that_is_no_more_is_ignored_and_told(path, caplog):
    """For one release a file that has it loads as if it had not; where it stands and what holds is said."""
    path.write_text(GOOD + "slots: {turn_seconds: 9, wait_seconds: 7}\nplans:\n  max_task_chars: 4000\n")
    config = load_config(path)
    assert (config.slots, config.plans) == (SlotsConfig(wait_seconds=7), PlansConfig())
    turns, task = (record.getMessage() for record in caplog.records)
    assert "line 4: slots.turn_seconds is ignored: a planner that was just loaded keeps its slot" in turns
    assert "line 6: plans.max_task_chars is ignored: a task has at most 32000 characters" in task


def test_a_command_that_reads_the_file_again_tells_it_once(path, caplog):
    """Else each command would say it two to four times."""
    path.write_text(GOOD + "slots: {turn_seconds: 9}\n")
    for _ in range(3):
        load_config(path)
    assert len(caplog.records) == 1


def test_every_argument_that_has_a_setting_is_told_with_its_line(path):
    """Whatever its spelling; and each at once."""
    args = "engine:\n  extra_args:\n    Max-Loras: 9\n    max_num_seqs: 4\n    --lora-modules: [x]\n"
    path.write_text(GOOD + args)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == [
        "line 6, engine.extra_args: Max-Loras is not allowed; set engine.max_loras",
        "line 8, engine.extra_args: --lora-modules is not allowed; list the adapter under planners, so that"
        " it is verified first",
    ]
