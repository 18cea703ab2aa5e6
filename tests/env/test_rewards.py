import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.scoring.rewards import (
    ClassifierReward,
    LPIPSReward,
    MSEReward,
    VP2Reward,
    WeightedReward,
    make_reward,
)
from cola_env.scoring.success_classifier import SuccessClassifier
from tests.env.dream_cases import tiny_lpips


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return SuccessClassifier(width=8).eval()


def frames_and_goal():
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(2, 3, 4, 64, 64, 3, generator=generator)
    return frames, torch.rand(2, 64, 64, 3, generator=generator)


def test_mse_is_the_mean_squared_error_to_each_problems_own_goal():
    frames, goal = frames_and_goal()
    rewards = MSEReward()(frames, goal)
    assert rewards.shape == (2, 3, 4)
    for b in range(2):
        expected = -torch.nn.functional.mse_loss(frames[b, 2, 1], goal[b])
        torch.testing.assert_close(rewards[b, 2, 1], expected)


def test_the_goal_itself_has_the_highest_reward():
    frames, goal = frames_and_goal()
    assert (MSEReward()(goal, goal) == 0).all()
    assert (MSEReward()(frames, goal) < 0).all()


def test_vp2_sums_are_the_formula_of_vp2(classifier):
    frames, goal = frames_and_goal()
    rewards = VP2Reward("open_slide", classifier, sums=True)(frames, goal)
    squared = (frames - goal[:, None, None]).square().flatten(3).sum(-1)
    logits = classifier(frames)[..., classifier.tasks.index("open_slide")]
    torch.testing.assert_close(rewards, -0.5 * squared + 10 * logits, atol=0.05, rtol=1e-3)


def test_means_rank_as_the_sums_do(classifier):
    frames, goal = frames_and_goal()
    means = VP2Reward("push_red", classifier)(frames, goal)
    sums = VP2Reward("push_red", classifier, sums=True)(frames, goal)
    torch.testing.assert_close(means * 64 * 64 * 3, sums, rtol=1e-4, atol=0.05)


def test_one_goal_serves_all_frames_and_one_frame_gives_one_number(classifier):
    frames, goal = frames_and_goal()
    reward = VP2Reward("push_red", classifier)
    shared = reward(frames, goal[0])
    torch.testing.assert_close(shared[0], reward(frames, goal)[0])
    torch.testing.assert_close(reward(frames[0, 1, 2], goal[0]), shared[0, 1, 2])


def test_classifier_reward_is_the_logit_of_its_probability(classifier):
    frames, goal = frames_and_goal()
    reward = ClassifierReward("push_blue", classifier)
    torch.testing.assert_close(reward(frames, goal).sigmoid(), reward.success_probability(frames))


def test_a_value_function_gives_no_probability_of_success():
    values = SuccessClassifier(width=4, discount=0.8).eval()
    frames, goal = frames_and_goal()
    reward = make_reward("classifier", "push_red", values)
    assert reward(frames, goal).shape == (2, 3, 4)
    with pytest.raises(ColaWorldError, match=r"value function \(discount 0.8\).*of discount 0"):
        reward.success_probability(frames)


def test_make_reward_by_name(classifier):
    assert isinstance(make_reward("mse", "stack"), MSEReward)
    assert isinstance(make_reward("classifier", "push_red", classifier), ClassifierReward)
    assert isinstance(make_reward("vp2", "push_red", classifier), VP2Reward)
    own = MSEReward(sums=True)
    assert make_reward(own, "push_red") is own


def test_named_rewards_are_summed_with_their_weights(classifier):
    frames, goal = frames_and_goal()
    parts = {"mse": 0.5, "classifier": 10}
    rewards = make_reward(parts, "push_red", classifier)(frames, goal)
    expected = 0.5 * MSEReward()(frames, goal) + 10 * ClassifierReward("push_red", classifier)(
        frames, goal
    )
    torch.testing.assert_close(rewards, expected)
    sums = make_reward({"mse_sums": 0.5, "classifier": 10}, "push_red", classifier)
    vp2 = make_reward("vp2_sums", "push_red", classifier)
    torch.testing.assert_close(sums(frames, goal), vp2(frames, goal))


def test_lpips_is_each_frames_distance_to_its_own_goal():
    frames, goal = frames_and_goal()
    network = tiny_lpips()
    reward = LPIPSReward(network)
    rewards = reward(frames, goal, chunk=5)
    assert rewards.shape == (2, 3, 4)
    for b in range(2):
        expected = -network(frames[b, 2, 1][None], goal[b][None])[0]
        torch.testing.assert_close(rewards[b, 2, 1], expected)
    assert (reward(goal, goal) == 0).all() and (rewards < 0).all()
    again = make_reward({"lpips": 2}, "push_red", lpips=network)(frames, goal)
    torch.testing.assert_close(again, 2 * rewards)


def test_bad_rewards_say_what_to_do(classifier):
    with pytest.raises(ColaWorldError, match="Unknown reward 'joy'.*vp2_sums"):
        make_reward("joy", "push_red")
    with pytest.raises(ColaWorldError, match="Unknown reward 'joy'"):
        make_reward({"mse": 1, "joy": 2}, "push_red")
    with pytest.raises(ColaWorldError, match="weight of reward 'mse' must be a finite number"):
        make_reward({"mse": "much"}, "push_red")
    with pytest.raises(ColaWorldError, match="at least one part"):
        make_reward({}, "push_red")
    with pytest.raises(ColaWorldError, match="alexnet-owt.*lpips="):
        make_reward("lpips", "push_red")
    with pytest.raises(
        ColaWorldError, match="no success classifier for task 'stack'.*reward='mse'"
    ):
        make_reward("vp2", "stack", classifier)
    with pytest.raises(ColaWorldError, match="must be a callable"):
        make_reward(3, "push_red")


def test_goals_of_another_size_or_number_of_axes_are_refused():
    frames, goal = frames_and_goal()
    with pytest.raises(ColaWorldError, match="same size"):
        MSEReward()(frames, goal[:, :32])
    with pytest.raises(ColaWorldError, match="one goal image per problem"):
        MSEReward()(goal, frames)


def test_weights_of_rewards_are_finite(classifier):
    nan = float("nan")
    for make in (
        lambda: make_reward({"mse": nan}, "push_red", classifier),
        lambda: WeightedReward([(nan, MSEReward())]),
        lambda: VP2Reward(classifier.tasks[0], classifier, mse_weight=nan),
        lambda: VP2Reward(classifier.tasks[0], classifier, classifier_weight=float("inf")),
    ):
        with pytest.raises(ColaWorldError, match="must be a finite number"):
            make()
