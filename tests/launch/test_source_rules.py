"""Sources in a planners.yaml: what is refused before anything starts, and what orders may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.cli.config_commands import check
from s3lora_serve.config import load_config
from s3lora_serve.control.operation import Wanted
from s3lora_serve.errors import ConfigError, SourceNotAllowed
from s3lora_serve.fleet.planner import DesiredPlanner
from s3lora_serve.launch.admit_all import StoreAdmission
from s3lora_serve.launch.resolve import to_desired, to_source
from s3lora_serve.launch.source_rules import file_problems, to_reach
from s3lora_serve.spectral.prune_policy import Alignment, AnomalyBar, PrunePolicy
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"


@pytest.fixture
def read(tmp_path: Path):
    """A planners.yaml with this behind a good one, read as the server reads it."""

    def _read(more: str = ""):
        path = tmp_path / "planners.yaml"
        path.write_text(GOOD + more)
        return load_config(path, file_problems)

    return _read


def admission(config) -> StoreAdmission:
    """What permits orders beside this file."""
    return StoreAdmission(None, None, None, to_reach(config))  # type: ignore[arg-type]


def permitted(config, wanted: Wanted) -> bool:
    """Whether an order may name it, while what the file declares is served."""
    declared = tuple(to_desired(config).values())
    try:
        admission(config).permit(Wanted(wanted.source, policy=wanted.policy, declared=declared))
    except SourceNotAllowed:
        return False
    return True


def test_a_password_in_the_file_is_refused_with_its_line(read):
    """It is not repeated; the hint says where credentials belong."""
    with pytest.raises(ConfigError) as caught:
        read("  code: {source: 's3://AKIAXYZ:SECRET@bucket/a'}\n  old: {source: 'webhdfs://h/a'}\n")
    first, second = caught.value.message.splitlines()[1:]
    assert first.startswith("  line 4, planners.code.source: s3://bucket/a: a source must not hold a user")
    assert "AWS_" in first
    assert "line 5, planners.old.source: webhdfs:// is not read" in second
    assert "SECRET" not in str(caught.value)
    assert "AKIAXYZ" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("hf://org", "hf://org is always allowed; remove it"),
        ("demo://x", "demo://x is always allowed; remove it"),
        ("https://o:SECRET@h/", "https://h/: a source must not hold a user"),
        ("https://h/?SECRET", "https://h/: name the folder, bucket or host that it lies in"),
        ("zip://x::/a.zip", "zip://x::/a.zip: name the folder, bucket or host that it lies in"),
        ("ftp://h", "ftp:// is not read"),
    ],
)
def test_entries_that_allow_nothing_are_refused(read, entry, problem):
    """They would look as if they did."""
    with pytest.raises(ConfigError) as caught:
        read(f"sources: {{allow: ['{entry}']}}\n")
    assert f"line 4, sources.allow.0: {problem}" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_the_default_is_what_the_file_names(read, tmp_path):
    """The demo, the Hub, planners' own folders, buckets and hosts; lines are relative to the file."""
    (tmp_path / "adapters/code").mkdir(parents=True)
    planners = "  code: {source: adapters/code}\n  far: {source: s3://bucket/far}\n"
    config = read(planners)
    for source in ("demo://gsm8k-planner", "hf://o/n", f"{tmp_path}/adapters/code", "s3://bucket/other"):
        assert permitted(config, Wanted(source)), source
    for source in (f"{tmp_path}/adapters", f"{tmp_path}/more/x", "https://h/a", "s3://bucket2/a"):
        assert not permitted(config, Wanted(source)), source
    config = read(f"{planners}sources: {{allow: [more, 'https://h']}}\n")
    for source in (f"{tmp_path}/more/x", "https://h/a?sig=1"):
        assert permitted(config, Wanted(source)), source
    assert not permitted(config, Wanted(f"{tmp_path}/adapters"))
    assert permitted(read(f"{planners}sources: {{allow: [any]}}\n"), Wanted("/anywhere"))


def test_files_of_a_policy_are_sources_too(read, tmp_path):
    """An order's sweep, reference and checkpoints are read on the server: the same rules hold."""
    for name in ("sweep", "other"):
        (tmp_path / name).mkdir()
    own = f"policy: {{validated: {{sweep: {tmp_path}/sweep, task: t, floor: 0.9}}}}\n"
    config = read(own)
    own_sweep = PrunePolicy(rule=Validated(f"{tmp_path}/sweep", "t", 0.5))
    assert permitted(config, Wanted("hf://o/n", policy=own_sweep))
    for policy in (
        PrunePolicy(rule=Validated(f"{tmp_path}/other", "t", 0.5)),
        PrunePolicy(anomaly=AnomalyBar("/etc/passwd")),
        PrunePolicy("e-diem", alignment=Alignment("/etc")),
        PrunePolicy("e-diem", alignment=Alignment("org/base", "~/x")),
    ):
        assert not permitted(config, Wanted("hf://o/n", policy=policy)), policy
        assert permitted(read(f"{own}sources: {{allow: [any]}}\n"), Wanted("hf://o/n", policy=policy))
    assert permitted(
        config, Wanted("hf://o/n", policy=PrunePolicy("e-diem", alignment=Alignment("org/base")))
    )


def test_a_signature_does_not_stay_in_what_config_shows(read, tmp_path, capsys):
    """`s3lora config check` prints sources without their queries, and a Config's text has none."""

    config = read("  code: {source: 'https://h/a?sig=SECRET'}\n")
    check(tmp_path / "planners.yaml")
    shown = capsys.readouterr().out
    assert "https://h/a" in shown
    assert "SECRET" not in shown
    assert "SECRET" not in repr(config)
    assert "SECRET" not in repr(to_desired(config))


def test_a_declaration_is_told_by_its_source_as_given():
    """Its digest is what it was before sources were parsed: no planner is admitted anew after an update."""
    assert (
        DesiredPlanner.of("hf://org/math", PrunePolicy()).declared
        == "0456b197fcca2622df810c219fa070a29456c7714482591399860899f583487f"
    )
    signed = {DesiredPlanner.of(f"https://h/a?sig={n}", PrunePolicy()).declared for n in range(2)}
    assert len(signed) == 2


def test_the_demo_is_this_packages_folder():
    """Whatever else may be read."""
    found = to_source(Source.parse("demo://gsm8k-planner"))
    assert (found.place.scheme, found.place.path.rpartition("/")[2]) == ("file", "gsm8k-planner")
