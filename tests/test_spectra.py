import subprocess
import sys

import librosa
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import mstats

from asd.audio import as_float, log_mel
from asd.settings import LogMel
from asd.spectra import Spectrum, mel_magnitude, pooled, rank_pooled


def spectrogram(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-60, 12, shape).astype(np.float32)


# --- pooling ------------------------------------------------------------------------------------------------


def test_mean_and_deviation():
    values = np.array([[1.0, 3.0], [2.0, 2.0], [-4.0, 4.0]])  # 3 mel bins, 2 frames
    assert pooled(values, Spectrum()).tolist() == [2, 2, 0]
    assert pooled(values, Spectrum(pool=["deviation", "mean"])).tolist() == [1, 0, 4, 2, 2, 0]


def test_rank_pooling_by_hand():
    # Descending 7, 4, 1; weights 1, 1/2, 1/4 over 7/4.
    assert rank_pooled(np.array([[4.0, 1.0, 7.0]]), [0.5]) == pytest.approx(np.array([[(7 + 2 + 0.25) / 1.75]]))


def test_decays_0_and_1_are_maximum_and_mean():
    values = spectrogram(5, 9)
    found = pooled(values, Spectrum(pool=["gwrp"], decays=[0, 1]))
    np.testing.assert_array_equal(found[:5], values.max(1))
    np.testing.assert_allclose(found[5:], values.mean(1, dtype=float), rtol=1e-12)


def test_rank_pooling_lies_between_and_falls_with_the_decay():
    found = rank_pooled(spectrogram(7, 313), [0, 0.3, 0.9, 0.99, 1])
    assert (np.diff(found, axis=0) < 0).all()


def test_quantiles_are_scipy_s():
    values, probabilities = spectrogram(4, 31), [0.0, 0.1, 0.5, 0.95, 1.0]
    found = pooled(values, Spectrum(pool=["quantiles"], quantiles=probabilities)).reshape(5, 4)
    # scipy's (alpha 1, beta 1) is the quantile with linear interpolation.
    expected = mstats.mquantiles(values.astype(float), probabilities, alphap=1, betap=1, axis=1).T
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-12)


def test_poolings_lie_side_by_side_in_order():
    settings = Spectrum(pool=["quantiles", "mean", "gwrp", "deviation"], quantiles=[0.9, 0.1], decays=[1, 0])
    values = spectrogram(6, 20)
    found = pooled(values, settings)
    assert settings.width(2) == 12
    assert found.shape == (36,)
    high, low, mean, same, maximum, deviation = found.reshape(6, 6)
    assert (low < high).all()
    assert (high < maximum).all()
    np.testing.assert_allclose(mean, same)
    np.testing.assert_allclose(deviation, values.astype(float).std(1))


def test_a_batch_is_its_clips():
    settings = Spectrum(pool=["mean", "deviation", "quantiles", "gwrp"], quantiles=[0.5], decays=[0.9, 0.5])
    values = spectrogram(3, 8, 17)
    found = pooled(values, settings)
    assert found.dtype == np.float64
    assert found.shape == (3, 40)
    for one, clip in zip(found, values, strict=True):
        np.testing.assert_allclose(one, pooled(clip, settings), rtol=1e-12)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"pool": []}, "at least one pooling"),
        ({"pool": ["mean", "mean"]}, "each once"),
        ({"pool": ["gwrp"]}, "gwrp and decays need each other"),
        ({"decays": [0.5]}, "gwrp and decays need each other"),
        ({"pool": ["quantiles"]}, "quantiles and quantiles need each other"),
        ({"pool": ["gwrp"], "decays": [0.5, 0.5]}, "decays: expected each once"),
        ({"pool": ["gwrp"], "decays": [1.1]}, "less than or equal to 1"),
        ({"pool": ["median"]}, "pool"),
        ({"stages": [1]}, "stages"),
    ],
)
def test_settings_that_mean_nothing_are_refused(block, message):
    with pytest.raises(ValidationError, match=message):
        Spectrum(**block)


# --- the magnitude ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [LogMel(), LogMel(n_fft=999, hop=501, mels=64)])
@pytest.mark.parametrize("samples", [16000, 20037])
def test_mel_magnitude_agrees_with_librosa(settings, samples):
    waveform = np.int16(np.random.default_rng(samples).normal(0, 3000, samples))
    expected = librosa.feature.melspectrogram(
        y=waveform / 32768,
        sr=settings.rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop,
        n_mels=settings.mels,
        power=1.0,
        center=True,
        pad_mode="constant",
    )
    found = mel_magnitude(waveform, settings)
    assert found.shape == expected.shape == log_mel(as_float(waveform), settings).shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_mel_magnitude_of_silence_is_0():
    assert not mel_magnitude(np.zeros(4000, np.int16), LogMel()).any()


def test_no_torch_and_no_scipy_to_import():
    code = "import sys, asd.spectra; print([name for name in ('torch', 'scipy', 'pandas') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
