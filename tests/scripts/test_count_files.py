"""The ways through the package stay short: counted by tracing, as ``python scripts/count_files.py`` does."""

import pytest

from scripts import count_files


@pytest.fixture(scope="module")
def counts():
    return {count.title: count for count in count_files.count_all()}


def test_no_way_leads_through_more_files_than_a_reader_may_have_to_open(counts):
    over = {title: len(count.files) for title, count in counts.items() if len(count.files) > count.limit}
    assert not over


def test_the_ways_are_followed_to_their_ends(counts):
    to_loss, to_result, modules, flow = (set(count.files) for count in counts.values())
    assert {"structures/annotations.py", "data/images.py", "modeling/network.py", "training/loss.py"} <= to_loss
    # a video in which nothing is found would not be clustered, chained or encoded
    assert {"inference/clustering.py", "inference/chaining.py", "structures/rle.py"} <= to_result
    assert "inference/writers/youtube_vis.py" in to_result and "data/images.py" in to_result
    assert {"stemseg.training.trainer", "stemseg.modeling.network"} <= modules
    assert "modeling/flow/glow.py" in flow


def test_only_what_runs_is_counted():
    assert count_files.trace(lambda: None) == []
    assert count_files.trace(lambda: count_files.load_config(None)) == ["structures/embedding_dims.py"]
