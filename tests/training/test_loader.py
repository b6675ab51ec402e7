"""Processes share every batch, without overlap and without changing what a micro-batch holds."""

import pytest

from stemseg.training.loader import MicroBatchSampler, random_seed
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import ConfigError


def _sampler(rank=0, world_size=1, **options):
    settings = {"first_iteration": 0, "last_iteration": 3, "batch_size": 8, "micro_batch_size": 2} | options
    return MicroBatchSampler(process=ProcessInfo(rank, world_size, rank), **settings)


def test_one_process_takes_every_sample_once_in_order():
    sampler = _sampler()
    batches = list(sampler)
    assert [i for batch in batches for i in batch] == list(range(24))
    assert all(len(batch) == 2 for batch in batches)
    assert len(sampler) == len(batches)


def test_processes_compute_the_micro_batches_of_one_process():
    alone = list(_sampler())
    shares = [list(_sampler(rank, 2)) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == alone
    for iteration in range(3):  # each has its share of every batch
        for share in shares:
            assert all(8 * iteration <= i < 8 * iteration + 8 for b in share[2 * iteration :][:2] for i in b)


def test_a_resumed_run_takes_the_samples_that_are_left():
    assert list(_sampler(first_iteration=2)) == list(_sampler())[2 * 4 :]


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match=r"BATCH_SIZE' is 8.* 3 processes .*multiple of 6"):
        _sampler(0, 3)


def test_random_seeds_depend_on_run_and_position():
    seeds = {random_seed(seed, sample) for seed in range(3) for sample in range(50)}
    assert len(seeds) == 150
    assert random_seed(1, 2) == random_seed(1, 2)
