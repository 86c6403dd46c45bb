"""One update is everywhere within a few rounds of gossip, though messages are lost. Virtual time throughout."""

from __future__ import annotations

import pytest

from tests.sim.gossip_rounds import quantile, rounds_of, spread, traffic

LOSS = 0.05


@pytest.mark.parametrize(
    ("nodes", "seeds", "updates", "rounds_max"), [(10, 6, 50, 5), (100, 1, 40, 7)], ids=["10 nodes", "100 nodes"]
)
def test_an_update_is_everywhere_in_a_few_rounds(nodes: int, seeds: int, updates: int, rounds_max: int) -> None:
    seconds = spread(nodes, range(seeds), updates, loss=LOSS)
    assert len(seconds) == seeds * updates
    assert rounds_of(quantile(seconds, 0.99)) <= rounds_max


def test_without_loss_a_small_mesh_knows_at_once() -> None:
    seconds = spread(10, range(1), 20, loss=0.0)
    assert rounds_of(seconds[-1]) == 1


def test_what_a_quiet_node_sends_grows_slower_than_the_mesh() -> None:
    small, large = (traffic(n, churn=False, seconds=6.0, loss=LOSS).bytes_per_s for n in (10, 60))
    assert large < 6 * small
