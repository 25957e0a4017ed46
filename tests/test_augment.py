import random
import warnings

import librosa
import numpy as np
import pytest
import torch
from audiomentations import SevenBandParametricEQ
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from asd.augment import crop, draw_equalisers, equalise, faults, frequency_response, mask, mixup
from asd.errors import InputError
from asd.settings import Equaliser, Faults

RATE = 16000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def global_states_stay():
    """Nothing here may draw from, or seed, a global random state."""
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    assert random.getstate() == states[0]
    np.testing.assert_equal(np.random.get_state(), states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


# --- mixup --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**63 - 1), st.integers(1, 12), st.floats(1e-6, 100))
def test_mixup_is_the_convex_combination(seed, batch, alpha):
    x = torch.randn(batch, 3, 4, generator=seeded(1))
    before = x.clone()
    mixed, partner, weight = mixup(x, alpha, seeded(seed))
    assert sorted(partner.tolist()) == list(range(batch))
    assert weight.shape == (batch,)
    assert ((weight >= 0) & (weight <= 1)).all()
    for clip in range(batch):
        own, other = x[clip].numpy().astype(float), x[partner[clip]].numpy().astype(float)
        w = weight[clip].item()
        np.testing.assert_allclose(mixed[clip].numpy(), w * own + (1 - w) * other, atol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("alpha", [0.05, 0.4, 1.0, 3.0])
def test_mixup_weight_is_beta_distributed(alpha):
    _, _, weight = mixup(torch.zeros(20000, 1, 1), alpha, seeded())
    # In float32 a weight within 3e-8 of 1 is 1, which a continuous distribution never is: compare well inside.
    weight = weight.numpy().astype(float)
    grid = np.linspace(0.001, 0.999, 200)
    empirical = np.searchsorted(np.sort(weight), grid) / len(weight)
    assert np.abs(empirical - stats.beta.cdf(grid, alpha, alpha)).max() < 1.95 / np.sqrt(len(weight))  # p = 0.001


def test_mixup_weighs_each_pair_by_itself():
    _, partner, weight = mixup(torch.zeros(100, 1, 1), 0.4, seeded())
    assert len(weight.unique()) > 90
    assert len({tuple(mixup(torch.zeros(5, 1, 1), 0.4, seeded(seed))[1].tolist()) for seed in range(50)}) > 20
    assert not torch.equal(partner, torch.arange(100))


def test_mixup_at_a_tiny_alpha_takes_one_of_the_two():
    _, _, weight = mixup(torch.zeros(1000, 1, 1), 1e-4, seeded())
    assert ((weight < 1e-6) | (weight > 1 - 1e-6)).float().mean() > 0.99
    assert 0.4 < (weight > 0.5).float().mean() < 0.6


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_mixup_without_alpha(alpha):
    with pytest.raises(ValueError, match="alpha > 0"):
        mixup(torch.zeros(2, 1, 1), alpha, seeded())


# --- faults -------------------------------------------------------------------------------------------------


def generated(mels=70, frames=120, clips=1500, gain=8.0):
    """The change of each clip (clips, mels, frames), and which clips got a fault."""
    x = torch.randn(clips, mels, frames, generator=seeded(1)) * 20 - 60
    changed, chosen = faults(x, Faults(probability=0.6, gain=gain), seeded())
    return (changed - x).numpy(), chosen.numpy()


def test_a_fault_is_a_band_with_a_course_and_other_clips_stay():
    change, chosen = generated()
    assert not change[~chosen].any()
    assert chosen.mean() == pytest.approx(0.6, abs=0.05)
    for one in change[chosen][:100]:
        # The rows are multiples of one course: of the singular values, only the first is not rounding.
        values = np.linalg.svd(one, compute_uv=False)
        assert values[1] < 1e-3 * values[0] + 1e-3


def test_faults_are_steady_pulsed_or_bursts_of_the_gains_told():
    change, chosen = generated()
    change = change[chosen]
    strongest = change[np.arange(len(change)), np.abs(change).max(2).argmax(1)]  # (clips, frames), at the band's middle
    steady = np.ptp(strongest, axis=1) < 1e-3
    present = np.abs(strongest) > 0.1
    bursts = ~steady & (present.mean(1) < 0.13)
    assert steady.mean() == pytest.approx(1 / 3, abs=0.06)
    assert bursts.mean() == pytest.approx(1 / 3, abs=0.08)
    assert present[~steady & ~bursts].mean() == pytest.approx(0.33, abs=0.05)  # 30 %, and the pulse is whole frames
    levels = np.abs(strongest).max(1)
    assert levels[steady].max() <= 8.001
    assert levels[~steady].max() <= 16.001
    assert levels[~steady].max() > 12
    assert np.median(levels[steady]) == pytest.approx(8 / np.sqrt(5), rel=0.15)  # of a log-uniform gain, 1.6 to 8
    assert (strongest[steady].mean(1) < 0).mean() == pytest.approx(0.3, abs=0.08)
    assert (strongest[~steady].max(1) > 0).all()


def test_the_same_seed_gives_the_same_faults_and_probability_0_none():
    x = torch.zeros(20, 40, 30)
    (one, _), (other, _) = (faults(x, Faults(probability=0.5), seeded(3)) for _ in range(2))
    assert torch.equal(one, other)
    none, chosen = faults(x, Faults(probability=0), seeded(3))
    assert torch.equal(none, x)
    assert not chosen.any()


# --- masks --------------------------------------------------------------------------------------------------


def runs(line):
    """(start, length) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**63 - 1), st.integers(0, 4), st.integers(0, 30), st.sampled_from([1, 2]), st.integers(1, 20))
def test_masks_are_few_and_narrow(seed, count, width, axis, size):
    shape = (5, size, 7) if axis == 1 else (5, 7, size)
    x = torch.randn(shape, generator=seeded(1)) + 10
    masked = mask(x, count, width, axis, seeded(seed))
    zero = masked == 0
    assert torch.equal(masked[~zero], x[~zero])
    line = zero.all(3 - axis)
    assert torch.equal(zero, line.unsqueeze(3 - axis).expand_as(zero))  # a mask covers the whole other axis
    for clip in line.numpy():
        found = runs(clip)
        assert len(found) <= count
        assert sum(length for _, length in found) <= count * min(width, size)


def test_mask_widths_and_starts_are_uniform():
    masked = mask(torch.ones(20000, 12, 1), 1, 5, 1, seeded())
    found = [runs(clip) for clip in (masked[:, :, 0] == 0).numpy()]
    assert max(map(len, found)) == 1
    widths = np.bincount([clip[0][1] if clip else 0 for clip in found])
    assert len(widths) == 6
    assert stats.chisquare(widths).pvalue > 0.001
    for width in range(1, 6):
        starts = np.bincount([clip[0][0] for clip in found if clip and clip[0][1] == width])
        assert len(starts) == 12 - width + 1
        assert stats.chisquare(starts).pvalue > 0.001


def test_masks_of_a_clip_are_independent():
    masked = mask(torch.ones(2000, 1, 200), 2, 16, 2, seeded())
    found = [len(runs(clip)) for clip in (masked[:, 0] == 0).numpy()]
    assert {0, 1, 2} == set(found)
    assert np.mean(np.array(found) == 2) > 0.7


def test_mask_wider_than_the_axis_is_the_axis():
    masked = mask(torch.ones(500, 3, 4), 1, 1000, 2, seeded())
    lengths = {sum(length for _, length in runs(clip)) for clip in (masked[:, 0] == 0).numpy()}
    assert lengths == {0, 1, 2, 3, 4}


def test_mask_switched_off():
    x = torch.ones(3, 4, 5)
    assert mask(x, 0, 3, 1, seeded()) is x
    assert mask(x, 2, 0, 1, seeded()) is x


@pytest.mark.parametrize("axis", [0, 3, -1])
def test_mask_along_no_axis(axis):
    with pytest.raises(ValueError, match="axis is 1"):
        mask(torch.ones(3, 4, 5), 1, 2, axis, seeded())


# --- crops --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**63 - 1), st.integers(1, 8), st.integers(1, 30), st.data())
def test_crop_is_consecutive_frames_of_the_same_clip(seed, batch, frames, data):
    window = data.draw(st.integers(1, frames))
    x = torch.arange(batch * 3 * frames).reshape(batch, 3, frames)
    cut = crop(x, window, seeded(seed))
    assert cut.shape == (batch, 3, window)
    for clip in range(batch):
        start = (cut[clip, 0, 0] - x[clip, 0, 0]).item()
        assert 0 <= start <= frames - window
        assert torch.equal(cut[clip], x[clip, :, start : start + window])


def test_crop_starts_are_uniform_and_each_clips_own():
    x = torch.arange(10).expand(20000, 1, 10)
    starts = np.bincount(crop(x, 4, seeded())[:, 0, 0].numpy())
    assert len(starts) == 7
    assert stats.chisquare(starts).pvalue > 0.001


def test_crop_of_clips_that_are_too_short():
    with pytest.raises(InputError, match="64 frames, but the clips have only 63"):
        crop(torch.zeros(2, 3, 63), 64, seeded())


def test_same_generator_same_augmentation():
    x = torch.randn(6, 20, 30, generator=seeded(1))

    def augmented(seed):
        generator = seeded(seed)
        mixed, partner, weight = mixup(x, 0.4, generator)
        masked = mask(mask(mixed, 2, 5, 1, generator), 2, 5, 2, generator)
        return crop(masked, 10, generator), partner, weight

    first, again, other = augmented(3), augmented(3), augmented(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_on_the_gpu_without_waiting_for_it():
    x = torch.randn(6, 20, 30, generator=seeded(1))
    wave = torch.randn(4, RATE, generator=seeded(1)) / 10
    _, bands = draw_equalisers(4, Equaliser(probability=1.0), RATE, 0)

    def augmented(x, wave):
        generator = seeded(3)
        mixed, _, _ = mixup(x, 0.4, generator)
        return crop(mask(mixed, 2, 5, 1, generator), 10, generator), equalise(wave, bands, RATE)

    on_gpu = x.cuda(), wave.cuda()
    augmented(*on_gpu)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = augmented(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(found, augmented(x, wave), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-5)


# --- the equaliser ------------------------------------------------------------------------------------------


def theirs(waveform, bands, rate=RATE):
    """audiomentations' own filters, with given parameters, on float32 waveforms (batch, samples)."""
    states = random.getstate(), np.random.get_state()
    equaliser = SevenBandParametricEQ(p=1.0)
    equaliser.randomize_parameters(waveform[0], rate)
    random.setstate(states[0])
    np.random.set_state(states[1])
    equaliser.freeze_parameters()
    filters = [equaliser.low_shelf_filter, *equaliser.peaking_filters, equaliser.high_shelf_filter]
    result = []
    for clip, parameters in zip(waveform, bands, strict=True):
        for one, (centre, gain, quality) in zip(filters, parameters, strict=True):
            one.parameters = {"should_apply": True, "center_freq": centre, "gain_db": gain, "q_factor": quality}
        result.append(equaliser(clip, rate))
    return np.stack(result)


def log_mel(waveform):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters")
        power = librosa.feature.melspectrogram(
            y=waveform, sr=RATE, n_fft=1024, hop_length=512, n_mels=224, pad_mode="constant"
        )
    return 10 * np.log10(np.maximum(power, 1e-10))


def sounds(kind, clips, seconds):
    """int16 (clips, samples): over a noise floor at -66 dB of full scale, as recordings have."""
    draw = np.random.default_rng(0)
    time = np.arange(seconds * RATE) / RATE
    sound = draw.normal(scale=5e-4, size=(clips, len(time)))
    if kind == "noise":
        sound += draw.normal(scale=0.1, size=sound.shape)
    elif kind == "tones":
        for clip in sound:
            for frequency, phase in zip(draw.uniform(30, 7800, 8), draw.uniform(0, 6, 8), strict=True):
                clip += 0.05 * np.sin(2 * np.pi * frequency * time + phase)
    elif kind == "impacts":  # and one on the first and last sample, where wrapping round would show
        for clip in sound:
            clip[draw.integers(len(time), size=20)] += draw.uniform(-0.9, 0.9, 20)
        sound[:, 0], sound[:, -1] = -0.9, 0.9
    elif kind == "offset":
        sound += 0.4
    return np.round(32767 * np.clip(sound, -1, 1)).astype(np.int16)


def test_parameters_and_choice_are_those_of_audiomentations():
    """The same seed, and its own call on one clip after another: the same clips equalised, to the same sound."""
    waveform = sounds("noise", 24, 1).astype(np.float32) / 32768
    chosen, bands = draw_equalisers(24, Equaliser(probability=0.5), RATE, 11)
    found = torch.where(chosen[:, None], equalise(torch.from_numpy(waveform), bands, RATE), torch.from_numpy(waveform))
    states = random.getstate(), np.random.get_state()
    random.seed(11)
    np.random.seed(11)
    equaliser = SevenBandParametricEQ(min_gain_db=-12, max_gain_db=12, p=0.5)
    expected = np.stack([equaliser(clip, RATE) for clip in waveform])
    random.setstate(states[0])
    np.random.set_state(states[1])
    assert 4 < chosen.sum() < 20
    assert chosen.tolist() == [not np.array_equal(a, b) for a, b in zip(expected, waveform, strict=True)]
    np.testing.assert_allclose(log_mel(found.numpy()), log_mel(expected), atol=0.15)
    assert np.abs(log_mel(found.numpy()) - log_mel(expected)).mean() < 0.001


@pytest.mark.parametrize("kind", ["noise", "tones", "impacts", "offset"])
def test_log_mel_is_that_of_audiomentations(kind):
    waveform = sounds(kind, 20, 4)
    _, bands = draw_equalisers(20, Equaliser(probability=1.0), RATE, 3)
    found = equalise(torch.from_numpy(waveform), bands, RATE).numpy()
    expected = theirs((waveform / 32768).astype(np.float32), bands.numpy())
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    difference = np.abs(log_mel(found) - log_mel(expected))
    assert np.abs(log_mel(expected) - log_mel(waveform / 32768)).mean() > 1  # there was something to equalise
    assert difference.mean() < 0.003
    assert difference[..., :2].mean() < 0.003
    assert difference[..., -2:].mean() < 0.003
    assert np.quantile(difference, 0.99) < 0.005


@pytest.mark.parametrize("kind", ["noise", "tones", "impacts", "offset"])
def test_waveform_is_that_of_audiomentations(kind):
    """Sample by sample, first and last included, where no high shelf sits at half the rate and rings on."""
    waveform = sounds(kind, 20, 2)
    _, bands = draw_equalisers(20, Equaliser(probability=1.0), RATE, 3)
    bands[:, 6, 0].clamp_(max=7500)
    found = equalise(torch.from_numpy(waveform), bands, RATE).numpy()
    expected = theirs((waveform / 32768).astype(np.float32), bands.numpy())
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
@pytest.mark.parametrize("gain", [12.0, 30.0])
def test_response_is_that_of_their_coefficients(rate, gain):
    _, bands = draw_equalisers(20, Equaliser(probability=1.0, gain=gain), rate, 1)
    bands[0, 6, 0] = 8000.0  # exactly half of 16 kHz, where the tangent has its pole
    found = frequency_response(bands, rate, 2048).numpy()
    assert found.shape == (20, 1025)
    assert found.dtype == np.complex64
    equaliser = SevenBandParametricEQ()
    filters = [equaliser.low_shelf_filter, *equaliser.peaking_filters, equaliser.high_shelf_filter]
    for clip in range(1, 20):
        sections = []
        for one, (centre, decibel, quality) in zip(filters, bands[clip].numpy(), strict=True):
            centre = 0.9999 * (rate // 2) if centre > rate // 2 else centre
            sections.append(one._get_biquad_coefficients_from_input_parameters(centre, decibel, quality, rate)[0])
        _, expected = signal.sosfreqz(np.stack(sections), np.linspace(0, np.pi, 1025))
        np.testing.assert_allclose(found[clip], expected, rtol=2e-5)
    assert np.isfinite(found[0]).all()


def test_response_at_zero_and_half_the_rate_is_the_shelves_gain():
    bands = torch.tensor([[[60.0, 6.0, 0.7], *[[1000.0, 9.0, 1.0]] * 5, [5000.0, -4.0, 0.7]]], dtype=torch.float64)
    response = frequency_response(bands, RATE, 16000)[0]
    assert 20 * response[0].abs().log10().item() == pytest.approx(6.0, abs=1e-4)
    assert 20 * response[-1].abs().log10().item() == pytest.approx(-4.0, abs=1e-4)
    alone = bands.clone()
    alone[0, [0, 2, 3, 4, 5, 6], 1] = 0.0
    assert 20 * frequency_response(alone, RATE, 16000)[0, 1000].abs().log10().item() == pytest.approx(9.0, abs=1e-4)


def test_no_gain_leaves_the_sound_as_it_is():
    waveform = torch.from_numpy(sounds("noise", 3, 1))
    chosen, bands = draw_equalisers(3, Equaliser(probability=1.0, gain=0.0), RATE, 0)
    assert chosen.all()
    assert not bands[..., 1].any()
    np.testing.assert_allclose(equalise(waveform, bands, RATE).numpy(), waveform.numpy() / 32768, atol=1e-6)


def test_level_is_neither_renormalised_nor_clipped():
    waveform = torch.full((1, RATE), 0.9)
    bands = torch.tensor([[[60.0, 12.0, 0.7], *[[1000.0, 0.0, 1.0]] * 5, [5000.0, 0.0, 0.7]]], dtype=torch.float64)
    np.testing.assert_allclose(equalise(waveform, bands, RATE).numpy(), 0.9 * 10 ** (12 / 20), rtol=1e-5)


@pytest.mark.parametrize("samples", [1, 100, 16383, 16384, 16385])
def test_any_length(samples):
    waveform = sounds("noise", 2, 2)[:, :samples]
    _, bands = draw_equalisers(2, Equaliser(probability=1.0), RATE, 3)
    found = equalise(torch.from_numpy(waveform), bands, RATE).numpy()
    np.testing.assert_allclose(found, theirs((waveform / 32768).astype(np.float32), bands.numpy()), atol=1e-5)


def test_no_clip_of_the_batch_was_chosen():
    _, bands = draw_equalisers(4, Equaliser(probability=0.0), RATE, 0)
    assert equalise(torch.zeros(0, RATE, dtype=torch.int16), bands[:0], RATE).shape == (0, RATE)


def test_share_range_and_seed_of_the_draws():
    chosen, bands = draw_equalisers(2000, Equaliser(probability=0.3, gain=5.0), RATE, 1)
    assert stats.binomtest(int(chosen.sum()), 2000, 0.3).pvalue > 0.001
    centre, gain, quality = bands.numpy().transpose(2, 1, 0)
    assert np.abs(gain).max() <= 5
    assert gain.min() < -4.9
    assert gain.max() > 4.9
    limits = [(42, 95), (91, 204), (196, 441), (421, 948), (909, 2045), (1957, 4404), (4216, 9486)]
    for band, (low, high) in zip(centre, limits, strict=True):
        assert low <= band.min() < 1.1 * low
        assert 0.9 * high < band.max() <= high
    assert quality[[0, 6]].max() < 1
    assert quality[1:6].min() >= 0.5
    assert quality.max() <= 5
    again, other = (draw_equalisers(2000, Equaliser(probability=0.3, gain=5.0), RATE, seed) for seed in (1, 2))
    assert torch.equal(again[0], chosen)
    assert torch.equal(again[1], bands)
    assert not torch.equal(other[1], bands)
    assert not draw_equalisers(50, Equaliser(probability=0.0), RATE, 1)[0].any()


def test_states_are_restored_when_drawing_fails(monkeypatch):
    def fail(*_):
        random.random()
        raise RuntimeError("no")

    monkeypatch.setattr(SevenBandParametricEQ, "randomize_parameters", fail)
    with pytest.raises(RuntimeError, match="no"):
        draw_equalisers(3, Equaliser(probability=1.0), RATE, 0)


def test_rate_too_low_for_the_peaks():
    with pytest.raises(InputError, match="above 8808 Hz; found 8000 Hz"):
        draw_equalisers(3, Equaliser(probability=0.5), 8000, 0)
