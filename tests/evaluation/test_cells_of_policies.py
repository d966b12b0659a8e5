"""What policies and scorers leave out of an adapter."""

import pytest
import torch
from small_subject import adapter

from s3lora_serve.evaluation.measuring import policies
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.policies import cells, grid, policy_label
from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.prune_policy import Adaptive, PrunePolicy, Threshold, Top, plan
from s3lora_serve.spectral.scorers import score
from s3lora_serve.spectral.validated import Validated

NAMES = [f"layers.{n}.q" for n in range(20)]


def labelled(found: list[Cell]) -> dict[str, Cell]:
    """Cells by label."""
    return {cell.label: cell for cell in found}


def test_controls_come_once():
    """Nothing pruned and everything pruned, once each, and first."""
    found = grid("one", adapter(NAMES), ["svd", "random"], [0.1, 0.5], [0, 1])
    assert [cell.label for cell in found[:2]] == ["none", "base"]
    assert found[0].pruned == ()
    assert set(found[1].pruned) == set(NAMES)
    assert {cell.scorer for cell in found[2:]} == {"svd", "random"}


def test_a_share_of_the_scored_modules():
    """Tau counts modules that have a score, rounded; inert ones are never pruned but belong to the base."""
    modules = adapter(NAMES) | {"inert": LowRank(torch.zeros(2, 6), torch.zeros(8, 2), 1.0)}
    found = labelled(grid("one", modules, ["mas-svd"], [0.05, 0.17, 1.0], []))
    assert len(found["mas-svd 5%"].pruned) == 1
    assert len(found["mas-svd 17%"].pruned) == 3
    assert set(found["mas-svd 100%"].pruned) == set(NAMES)
    assert "inert" in found["base"].pruned


def test_cells_are_the_plan():
    """A cell leaves out what admission would, for the same scorer and number."""
    modules = adapter(NAMES)
    expected = plan(score(modules, "svd"), PrunePolicy("svd", Top(4)))
    cell = labelled(grid("one", modules, ["svd"], [0.2], []))["svd 20%"]
    assert (cell.pruned, cell.reason) == (expected.pruned, expected.reason)


def test_random_has_seeds():
    """Each seed is a separate cell, with its seed in the label and another choice."""
    found = labelled(grid("one", adapter(NAMES), ["random"], [0.25], [0, 1, 7]))
    assert [label for label in found if "#" in label] == ["random 25% #0", "random 25% #1", "random 25% #7"]
    assert len({cell.pruned for cell in found.values() if cell.scorer}) == 3
    assert found["random 25% #7"].seed == 7


def test_each_scorer_scores_once(monkeypatch):
    """Scoring is what costs: once for each scorer, once a seed for random, whatever the number of taus."""
    calls = []

    def counted(modules, scorer, **settings):
        calls.append((scorer, settings["seed"]))
        return score(modules, scorer, **settings)

    monkeypatch.setattr(policies, "score", counted)
    grid("one", adapter(NAMES), ["mas-svd", "spsvd", "random"], [0, 0.1, 0.2, 0.5], [0, 1])
    assert calls == [("mas-svd", 0), ("spsvd", 0), ("random", 0), ("random", 1)]


def test_equal_scorers_keep_their_labels():
    """MAS-SVD and SpSVD choose the same; both are there under their own names."""
    found = labelled(grid("one", adapter(NAMES), ["mas-svd", "spsvd"], [0.3], []))
    assert found["mas-svd 30%"].pruned == found["spsvd 30%"].pruned


def test_alignment_is_passed_on():
    """Scorers against an alignment get it, and are refused without."""
    modules = adapter(NAMES)
    alignment = {name: torch.randn(8, 6, generator=torch.Generator().manual_seed(1)) for name in NAMES}
    found = labelled(grid("one", modules, ["safelora"], [0.1], [], alignment))
    assert len(found["safelora 10%"].pruned) == 2
    with pytest.raises(ValueError, match="safelora"):
        grid("one", modules, ["safelora"], [0.1], [])


def test_no_tau_beyond_shares():
    """Tau is a share; 10, as the papers count modules, is refused, and 0 is the control."""
    with pytest.raises(ValueError, match="tau 10 is not a share"):
        grid("one", adapter(NAMES), ["svd"], [0.1, 10], [])
    assert len(grid("one", adapter(NAMES), ["svd"], [0.0], [])) == 2


def test_policies_and_their_random_control():
    """Every policy has a cell, whatever its action, and each number of modules its random control."""
    given = [
        PrunePolicy("mas-svd", Top(4), "observe"),
        PrunePolicy("svd", Top(4)),
        PrunePolicy("svd", Threshold(0.5)),
        PrunePolicy("mas-svd", Adaptive(z=50)),
    ]
    found = labelled(cells("one", adapter(NAMES), given, random_seeds=range(2)))
    assert list(found) == [
        "none",
        "base",
        "mas-svd top=4",
        "svd top=4",
        "svd threshold=0.5",
        "mas-svd adaptive z=50 max_share=0.25",
        "random top=4 #0",
        "random top=4 #1",
        "random top=20 top_share=1 #0",
        "random top=20 top_share=1 #1",
    ]
    assert len(found["mas-svd top=4"].pruned) == 4
    assert found["mas-svd adaptive z=50 max_share=0.25"].reason.startswith("abstained")


def test_an_own_random_policy_is_no_double():
    """A random policy that was given is the control with its seed."""
    given = [PrunePolicy("svd", Top(4)), PrunePolicy("random", Top(4), seed=1)]
    found = labelled(cells("one", adapter(NAMES), given, random_seeds=range(2)))
    assert list(found)[2:] == ["svd top=4", "random top=4 #1", "random top=4 #0"]


def test_equal_policies_are_refused():
    """Two policies that differ in their action alone would be one label."""
    given = [PrunePolicy("svd", Top(4)), PrunePolicy("svd", Top(4), "observe")]
    with pytest.raises(ValueError, match="two policies are 'svd top=4'"):
        cells("one", adapter(NAMES), given)


def test_a_validated_policy_has_a_short_name():
    """Its measurements are not in the label."""
    rule = Validated("runs/sweep", "plans", 0.9)
    assert policy_label(PrunePolicy("svd", rule)) == "svd validated valid>=0.9 on plans"
