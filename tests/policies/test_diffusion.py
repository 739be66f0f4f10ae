"""The policy as a whole: normalisation, crops, loss, sampling, saving."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from sim2real_aug.errors import BadInput
from sim2real_aug.policies.diffusion import (
    DiffusionPolicy,
    PolicySettings,
    load_policy,
    starts_from_noise,
)
from sim2real_aug.policies.normalizer import FrameNormalizer, MinMaxNormalizer
from sim2real_aug.policies.observation import FrameEncoder, Observation, crop, in_frame
from sim2real_aug.seeding import torch_generator

TINY = PolicySettings(
    features=8, keypoints=4, down_dims=(16, 32), step_dim=16, image_size=24, crop_size=20, horizon=8,
    n_action_steps=4, num_inference_steps=10,
)  # fmt: skip


def make_policy(**changes: object) -> DiffusionPolicy:
    torch.manual_seed(0)
    policy = DiffusionPolicy(dataclasses.replace(TINY, **changes))  # type: ignore[arg-type]
    policy.action_normalizer.fit(torch.tensor([[0.0, 100.0], [512.0, 300.0]]))
    policy.state_normalizer.fit(torch.tensor([[0.0, 0.0], [512.0, 512.0]]))
    return policy.eval()


def make_observation(batch: int, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (batch, 2, 24, 24, 3), dtype=np.uint8)
    return Observation(
        torch.from_numpy(frames), torch.from_numpy(rng.uniform(0, 512, (batch, 2, 2)).astype(np.float32))
    )


def generators(batch: int) -> list[torch.Generator]:
    return [torch_generator("test", row) for row in range(batch)]


def test_normalizer_maps_extremes_to_one_and_back() -> None:
    normalizer = MinMaxNormalizer(3)
    values = torch.tensor([[0.0, 10.0, 7.0], [512.0, 20.0, 7.0], [128.0, 15.0, 7.0]])
    normalizer.fit(values)
    expected = torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-0.5, 0.0, 0.0]])  # a constant goes to 0
    torch.testing.assert_close(normalizer.normalize(values), expected)
    torch.testing.assert_close(normalizer.unnormalize(normalizer.normalize(values)), values)


def test_frames_get_mean_zero_and_deviation_one_and_a_constant_channel_zero() -> None:
    normalizer = FrameNormalizer()
    frames = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    torch.testing.assert_close(normalizer.normalize(frames), torch.full((1, 2, 2, 3), -1.0))
    frames[..., 0] = torch.tensor([[10, 10], [30, 30]])
    frames[..., 1] = torch.tensor([[0, 200], [0, 200]])
    frames[..., 2] = 255
    normalizer.fit(frames)
    assert normalizer.normalize(frames)[0].tolist() == [
        [[-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]],
        [[1.0, -1.0, 0.0], [1.0, 1.0, 0.0]],
    ]


def test_centre_crop_and_random_crops_are_windows_of_the_frame() -> None:
    frames = torch.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3)
    centre, corners = crop(frames, 4)
    torch.testing.assert_close(centre, frames[:, 1:5, 1:5])
    assert corners.tolist() == [[1, 1], [1, 1]]
    found = set()
    for seed in range(60):
        window, corners = crop(frames, 4, torch_generator(seed))
        assert window.shape == (2, 4, 4, 3)
        top, left = divmod(int(window[1, 0, 0, 0] - 108) // 3, 6)
        assert corners[1].tolist() == [left, top]
        torch.testing.assert_close(window[1], frames[1, top : top + 4, left : left + 4])
        found.add((top, left))
    assert found == {(top, left) for top in range(3) for left in range(3)}


def test_a_window_s_keypoints_are_placed_in_the_whole_frame() -> None:
    """A window of 5 pixels whose first is pixel (4, 2) of a frame of 11: its ends and its middle, worked by hand."""
    keypoints = torch.tensor([[[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]]])
    placed = in_frame(keypoints, torch.tensor([[4, 2]]), 11)
    pixels = [[4, 2], [6, 4], [8, 6]]
    torch.testing.assert_close(placed, torch.tensor([[[x / 5 - 1, y / 5 - 1] for x, y in pixels]]))


def test_a_random_crop_does_not_move_what_the_encoder_says_of_a_lone_spot() -> None:
    """The encoder is replaced by one that finds the brightest pixel: with any crop it gives the same place."""
    encoder = FrameEncoder("compact", keypoints=1, features=2, crop_size=20)

    def brightest(windows: torch.Tensor) -> torch.Tensor:
        place = windows[:, 0].flatten(1).argmax(1)
        return torch.stack([place % 20, place // 20], -1)[:, None]

    encoder.encoder.forward = brightest  # type: ignore[method-assign, assignment]
    frames = torch.zeros(1, 2, 24, 24, 3, dtype=torch.uint8)
    frames[:, :, 9, 14] = 255
    centre = encoder(frames)
    for seed in range(8):
        torch.testing.assert_close(encoder(frames, torch_generator(seed)), centre, atol=1e-5, rtol=1e-5)


def test_loss_of_a_fresh_policy_is_about_the_noise_s_variance_and_seeded() -> None:
    policy = make_policy(prediction_type="epsilon")
    actions = torch.full((64, 8, 2), 200.0)
    losses = [policy.loss(make_observation(64), actions, torch_generator(seed)).item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert 0.8 < losses[0] < 1.6


def test_several_noise_draws_encode_each_frame_once_and_average_the_loss() -> None:
    """With the same windows three times over as one batch, the loss of three draws of each window must come out."""
    policy, seen = make_policy(), []
    policy.encoder.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    observation, actions = make_observation(4), torch.rand(4, 8, 2, generator=torch_generator(3)) * 400
    drawn = policy.denoising_loss(policy.encode(observation), actions, torch_generator(1), noise_draws=3)
    thrice = Observation(observation.frames.repeat(3, 1, 1, 1, 1), observation.states.repeat(3, 1, 1))
    plain = policy.loss(thrice, actions.repeat(3, 1, 1), torch_generator(1), random_crop=False)
    torch.testing.assert_close(drawn, plain)
    frames = observation.frames.shape[0] * observation.frames.shape[1]
    assert seen == [frames, 3 * frames]


def exact(policy: DiffusionPolicy, clean: torch.Tensor, kind: str) -> Callable[..., torch.Tensor]:
    """A U-Net that knows the normalised clean actions, and predicts what `kind` says."""
    alphas = policy.noise_schedule.alphas_cumprod

    def predict(noisy: torch.Tensor, steps: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        alpha = alphas[steps][:, None, None]
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        return {"epsilon": noise, "sample": clean, "v_prediction": velocity}[kind]

    return predict


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_policy_that_predicts_exactly_has_no_loss_and_samples_the_action(kind: str) -> None:
    """DDIM and DDPM both arrive at the known sequence; a prediction of another kind does not."""
    target = torch.rand(3, 8, 2, generator=torch_generator(5)) * 1.6 - 0.8
    for sampler, steps in (("ddim", 10), ("ddpm", 100)):
        policy = make_policy(sampler=sampler, num_inference_steps=steps, prediction_type=kind)
        actions = policy.action_normalizer.unnormalize(target)
        for told in ("epsilon", "sample", "v_prediction"):
            policy.unet.forward = exact(policy, target, told)  # type: ignore[method-assign]
            loss = policy.loss(make_observation(3), actions, torch_generator(0)).item()
            assert (loss < 1e-6) == (told == kind)
        policy.unet.forward = exact(policy, target, kind)  # type: ignore[method-assign]
        sampled = policy.sample(make_observation(3), generators(3))
        torch.testing.assert_close(policy.action_normalizer.normalize(sampled), target, atol=2e-3, rtol=0)


def test_the_noise_schedule_is_the_squared_cosine() -> None:
    """Nichol and Dhariwal, arXiv:2102.09672, equation 17, betas capped at 0.999."""
    t = np.arange(101) / 100
    bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    expected = np.cumprod(1 - betas)
    np.testing.assert_allclose(make_policy().noise_schedule.alphas_cumprod.numpy(), expected, rtol=1e-4)


def test_actions_start_at_the_newest_observation_and_stay_in_the_data_s_range() -> None:
    policy = make_policy()
    whole = policy.sample(make_observation(2), generators(2))
    acted = policy.act(make_observation(2), generators(2))
    assert whole.shape == (2, 8, 2)
    torch.testing.assert_close(acted, whole[:, 1:5])
    assert whole[..., 0].min() >= -0.01
    assert whole[..., 1].max() <= 300.01


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_row_s_actions_do_not_depend_on_the_rest_of_the_batch(sampler: str) -> None:
    policy = make_policy(sampler=sampler)
    observation = make_observation(3)
    together = policy.act(observation, generators(3))
    alone = policy.act(Observation(observation.frames[2:], observation.states[2:]), generators(3)[2:])
    torch.testing.assert_close(together[2:], alone, atol=0.05, rtol=0)


def test_overfits_one_batch() -> None:
    policy = make_policy(num_inference_steps=50).train()
    observation, actions = make_observation(4), torch.rand(4, 8, 2, generator=torch_generator(3)) * 200 + 100
    many = Observation(observation.frames.repeat(8, 1, 1, 1, 1), observation.states.repeat(8, 1, 1))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        loss = policy.loss(many, actions.repeat(8, 1, 1), torch_generator("fit", step), random_crop=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.eval()
    error = (policy.sample(observation, generators(4)) - actions).abs().mean()
    spread = (actions - actions.mean((0, 1))).abs().mean()  # what predicting the mean would leave
    assert error < 0.4 * spread


def test_save_and_load_give_the_same_actions(tmp_path: Path) -> None:
    policy = make_policy()
    policy.save_pretrained(tmp_path / "run" / "policy")
    assert sorted(p.name for p in (tmp_path / "run" / "policy").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    for path in (tmp_path / "run", tmp_path / "run" / "policy"):
        loaded = load_policy(path)
        assert loaded.settings == policy.settings
        assert torch.equal(
            loaded.act(make_observation(2), generators(2)), policy.act(make_observation(2), generators(2))
        )


def test_paths_that_hold_no_policy_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a policy run") as caught:
        load_policy(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(BadInput, match="holds no policy: give a run of train-policy"):
        load_policy(tmp_path)
    make_policy().save_pretrained(tmp_path / "policy")
    weights = tmp_path / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadInput, match="is not a saved policy") as caught:
        load_policy(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "resnet19"}, "Did you mean 'resnet18'"),
        ({"sampler": "dim"}, "Did you mean 'ddim'"),
        ({"horizon": 7}, "horizon must be a multiple of 2"),
        ({"n_action_steps": 8}, "at most horizon 8"),
        ({"crop_size": 30}, r"crop_size must lie in 4..image_size 24; got 30"),
        ({"kernel_size": 4}, "kernel_size must be odd and at least 1; got 4"),
        ({"step_dim": 2}, "step_dim must be even and at least 4; got 2"),
        ({"down_dims": ()}, r"down_dims must be one or more positive multiples of groups 8; got \[\]"),
        ({"down_dims": (8, 12)}, r"down_dims must be one or more positive multiples of groups 8; got \[8, 12\]"),
        ({"groups": 0}, "groups must be at least 1; got 0"),
        ({"num_inference_steps": 101}, "num_inference_steps must lie in 1..num_train_timesteps 100"),
        ({"num_inference_steps": 60}, "60 of .* would start from half-clean actions; take 50 or 89$"),
        ({"num_inference_steps": 2}, "would start from half-clean actions; take 9$"),
    ],
)
def test_contradictory_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 9, 10, 16, 50, 60, 75, 100])
@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
def test_inference_starts_at_a_step_of_noise_alone(kind: type, count: int) -> None:
    """At most 0.03 of the variance is clean at the scheduler's first step, for the counts that are accepted."""
    scheduler = kind(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    scheduler.set_timesteps(count)
    assert starts_from_noise(count, 100) == bool(scheduler.alphas_cumprod[scheduler.timesteps[0]] <= 0.03)


def test_groups_need_not_be_eight() -> None:
    policy = make_policy(groups=6, down_dims=(36, 36))
    assert policy.act(make_observation(1), generators(1)).shape == (1, TINY.n_action_steps, 2)


def test_all_contradictions_come_in_one_message() -> None:
    with pytest.raises(BadInput, match=r"horizon.*crop_size"):
        dataclasses.replace(TINY, horizon=7, crop_size=30)
