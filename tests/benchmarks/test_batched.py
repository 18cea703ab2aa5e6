"""Both ways of playing a run play all of it."""

from omegaconf import OmegaConf

from benchmarks.batched import compare


def test_both_ways_play_every_episode_of_every_round(configure, tmp_path):
    config = configure(tmp_path, "episodes=2", "batch_size=2")
    more = {"rounds": 2, "one_at_a_time": {"batch_size": 1, "threads": 1, "workers": 1}}
    found = compare(OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(config)), more))
    assert [[one["episodes"] for one in rounds] for rounds in found.values()] == [[4, 4]] * 2
    assert not list(tmp_path.iterdir())
