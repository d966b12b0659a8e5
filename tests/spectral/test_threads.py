"""Scoring's own threads: same results, and torch's settings as they were."""

from __future__ import annotations

import threading

import pytest
import torch

from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.masvd import mas_svd
from s3lora_serve.spectral.threads import in_turn, spread


@pytest.fixture
def two_threads():
    """Torch with two threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread() -> int:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


@pytest.mark.usefixtures("two_threads")
def test_every_item_is_worked_on_once():
    """Two threads share the items out between them; one item needs one thread, none needs none."""
    assert spread(list, [1, 2, 3, 4, 5]) == [[1, 3, 5], [2, 4]]
    assert spread(list, [1]) == [[1]]
    assert spread(list, []) == []


@pytest.mark.usefixtures("two_threads")
def test_workers_run_their_operations_alone():
    """Inside a worker torch has one thread: no operation waits for another worker."""
    assert spread(lambda _: torch.get_num_threads(), [1, 2]) == [1, 1]


@pytest.mark.usefixtures("two_threads")
def test_one_worker_does_all_in_turn():
    """Work that may hold one thing at a time has one worker, whose operations run alone."""
    assert in_turn(lambda items: (list(items), torch.get_num_threads()), [1, 2, 3]) == ([1, 2, 3], 1)
    assert in_turn(list, []) == []
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (2, 2)


@pytest.mark.usefixtures("two_threads")
def test_torch_keeps_its_settings():
    """Afterwards torch has its threads back, here and in threads yet to be born, also after an error."""

    def fail(_: object) -> None:
        raise RuntimeError("no")

    spread(list, [1, 2])
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (2, 2)
    with pytest.raises(RuntimeError, match="no"):
        spread(fail, [1, 2])
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (2, 2)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_threads(threads: int):
    """However many threads share the chunks out, every module's index stays the same to rounding."""
    g = torch.Generator().manual_seed(0)
    modules = {
        f"m{i}": LowRank(torch.randn(8, 64 * (1 + i % 3), generator=g), torch.randn(128, 8, generator=g), 1.0)
        for i in range(12)
    }
    alone = {name: mas_svd({name: module})[name].ssi for name, module in modules.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = mas_svd(modules)
    finally:
        torch.set_num_threads(before)

    assert list(together) == list(modules)
    assert {name: found.ssi for name, found in together.items()} == pytest.approx(alone, abs=1e-7)
