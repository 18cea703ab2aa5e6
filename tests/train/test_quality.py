"""SSIM, FVD and LPIPS against formulas, closed forms and the package itself."""

import hashlib
import importlib.util

import numpy as np
import pytest
import torch

from cola_env.errors import ColaWorldError
from cola_env.scoring import lpips_distance
from cola_env.scoring.lpips_distance import CONVOLUTIONS, LPIPS, TORCHVISION_PLACES
from cola_train.evaluation.rollout_quality import Networks, measures
from cola_train.evaluation.video_metrics import (
    VideoFeatures,
    frechet_distance,
    frechet_video_distance,
    ssim_map,
)

has_lpips = importlib.util.find_spec("lpips") is not None


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_ssim_is_the_formula_at_one_pixel() -> None:
    x, y = noise(2, 24, 24, 3), noise(2, 24, 24, 3, seed=1)
    offsets = np.arange(-5, 6)
    row = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(row, row) / np.outer(row, row).sum()
    a, b = (each[1, 4:15, 7:18].double().numpy() for each in (x, y))
    expected = []
    for channel in range(3):
        p, q = a[..., channel], b[..., channel]
        mean_p, mean_q = (window * p).sum(), (window * q).sum()
        var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
        both = (window * (p - mean_p) * (q - mean_q)).sum()
        expected.append(
            (2 * mean_p * mean_q + 1e-4)
            * (2 * both + 9e-4)
            / ((mean_p**2 + mean_q**2 + 1e-4) * (var_p + var_q + 9e-4))
        )
    assert float(ssim_map(x, y)[1, 4, 7]) == pytest.approx(np.mean(expected), abs=1e-9)


def test_ssim_is_one_for_equal_frames_and_falls_with_noise() -> None:
    x = noise(3, 32, 32, 3)
    torch.testing.assert_close(ssim_map(x, x), torch.ones(3, 22, 22, dtype=torch.float64))
    little = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(
        0, 1
    )
    much = (x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert 1 > ssim_map(little, x).mean() > ssim_map(much, x).mean() > 0
    torch.testing.assert_close(ssim_map(x, much), ssim_map(much, x))


def test_the_frechet_distance_of_exact_gaussians() -> None:
    """Samples whose mean and covariance are exactly chosen: all of the closed form."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(400, 6, generator=generator, dtype=torch.float64)
    raw = raw - raw.mean(0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T.cov())).T
    scale = torch.tensor([0.5, 1, 2, 3, 1, 0.1], dtype=torch.float64)
    shift = torch.arange(6, dtype=torch.float64)
    distance = frechet_distance(white, white * scale + shift)
    assert distance == pytest.approx(float((shift**2).sum() + ((scale - 1) ** 2).sum()), rel=1e-9)
    assert frechet_distance(white, white) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_is_that_of_a_matrix_square_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    x = torch.randn(50, 5, generator=generator, dtype=torch.float64) @ mix
    y = torch.randn(40, 5, generator=generator, dtype=torch.float64) @ mix.T + 1
    root = linalg.sqrtm((x.T.cov() @ y.T.cov()).numpy()).real
    means = (x.mean(0) - y.mean(0)).square().sum()
    expected = float(means + (x.T.cov() + y.T.cov()).trace() - 2 * np.trace(root))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_bad_features_are_told() -> None:
    good = torch.randn(4, 3)
    for bad in (torch.randn(1, 3), torch.full((4, 3), torch.nan)):
        with pytest.raises(ColaWorldError, match="at least 2 samples of finite features"):
            frechet_distance(good, bad)


class Detector(torch.nn.Module):
    """Takes what StyleGAN-V's I3D takes and gives the means of the channels."""

    def forward(
        self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool
    ) -> torch.Tensor:
        assert x.shape[1] == 3 and x.shape[3] == 224 and x.shape[4] == 224
        return x.mean((2, 3, 4))


def test_fvd_shows_the_network_clips_as_it_expects_them(tmp_path) -> None:
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(Detector()).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    features = VideoFeatures(path, digest[:8])
    clips = noise(5, 9, 64, 64, 3)
    torch.testing.assert_close(features(clips), clips.mean((1, 2, 3)) * 2 - 1, rtol=0, atol=1e-3)
    assert frechet_video_distance(clips, clips, features) == pytest.approx(0, abs=1e-6)
    brighter = (clips + 0.2).clamp(max=1.2)
    assert frechet_video_distance(brighter, clips, features) > 0.3
    with pytest.raises(ColaWorldError, match="download it again"):
        VideoFeatures(path, "00ff")
    with pytest.raises(ColaWorldError, match="i3d_torchscript.pt"):
        VideoFeatures(tmp_path / "none.pt")
    path.write_bytes(b"no network")
    with pytest.raises(ColaWorldError, match="no TorchScript"):
        VideoFeatures(path)


@pytest.fixture
def alexnet(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Random weights in torchvision's layout, under a name that carries their hash."""
    torch.manual_seed(0)
    weights = {}
    for place, (into, out, kernel, _, _) in zip(TORCHVISION_PLACES, CONVOLUTIONS, strict=True):
        layer = torch.nn.Conv2d(into, out, kernel)
        weights |= {f"features.{place}.{k}": v for k, v in layer.state_dict().items()}
    torch.save(weights, tmp_path / "weights")
    digest = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()[:8]
    path = tmp_path / f"alexnet-owt-{digest}.pth"
    (tmp_path / "weights").rename(path)
    monkeypatch.setattr(lpips_distance, "ALEXNET", path.name)
    return path


@pytest.mark.skipif(not has_lpips, reason="the package lpips is not installed")
def test_lpips_is_that_of_the_package(alexnet) -> None:
    ours = LPIPS(alexnet)
    x, y = noise(2, 64, 64, 3), noise(2, 64, 64, 3, seed=1)
    assert torch.equal(ours(x, x), torch.zeros(2)) and (ours(x, y) > 0).all()
    try:
        import lpips
    except (ImportError, RuntimeError):
        pytest.skip("torchvision, which the package lpips needs, does not load here")
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    weights = torch.load(alexnet, weights_only=True)
    names = {p.split(".")[1]: n for n, p in _alexnet_places(theirs).items()}
    theirs.net.load_state_dict(
        {names[k.split(".")[1]] + "." + k.split(".")[2]: v for k, v in weights.items()}
    )
    expected = theirs(x.movedim(-1, 1) * 2 - 1, y.movedim(-1, 1) * 2 - 1).flatten()
    torch.testing.assert_close(ours(x, y), expected, rtol=1e-5, atol=1e-6)


def _alexnet_places(theirs) -> dict[str, str]:
    """The package's name of each convolution -> "features.<place>" of torchvision."""
    return {
        name: f"features.{name.rpartition('.')[2]}"
        for name, module in theirs.net.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    }


@pytest.mark.skipif(not has_lpips, reason="the package lpips is not installed")
def test_missing_or_foreign_alexnet_weights_are_told(alexnet, tmp_path) -> None:
    with pytest.raises(ColaWorldError, match="download yourself"):
        LPIPS(tmp_path / "none.pth")
    alexnet.write_bytes(alexnet.read_bytes() + b"0")
    with pytest.raises(ColaWorldError, match="damaged"):
        LPIPS(alexnet)


def test_measures_tell_good_from_bad_videos() -> None:
    truth = noise(4, 3, 32, 32, 3)
    moving = torch.zeros(4, 3, 32, 32, dtype=torch.bool)
    moving[..., 8:20, 8:20] = True
    spoilt = truth.clone()
    spoilt[..., 8:20, 8:20, :] = 0.5
    found = measures(spoilt, truth, moving, Networks())
    error = (0.5 - truth[..., 8:20, 8:20, :]).square().mean()
    assert found["moving_psnr"] == pytest.approx(float(-10 * error.log10()), abs=1e-3)
    assert found["psnr"] > found["moving_psnr"] and found["ssim"] > found["moving_ssim"]
    assert "lpips" not in found and "fvd" not in found
    perfect = measures(truth, truth, moving, Networks())
    assert perfect["psnr"] == pytest.approx(100) and perfect["ssim"] == pytest.approx(100)


def test_lpips_goes_where_the_frames_are() -> None:
    class Moved(torch.nn.Module):
        """Computes only where it was brought to."""

        place: torch.device | None = None

        def to(self, place: torch.device) -> "Moved":
            self.place = place
            return self

        def forward(self, frames: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
            assert frames.device == truth.device == self.place
            return (frames - truth).abs().mean((1, 2, 3))

    x, y = noise(2, 3, 32, 32, 3), noise(2, 3, 32, 32, 3, seed=1)
    moving = torch.ones(2, 3, 32, 32, dtype=torch.bool)
    found = measures(x, y, moving, Networks(lpips=Moved()))  # type: ignore[arg-type]
    assert found["lpips"] == pytest.approx(100 * float((x - y).abs().mean()), rel=1e-4)
