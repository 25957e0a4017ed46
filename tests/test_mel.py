import librosa
import numpy as np
import pytest

from asd import audio
from asd.errors import InputError
from asd.mel import frames, mel_filters
from asd.settings import LogMel


@pytest.mark.parametrize(
    ("rate", "n_fft", "mels"),
    [(16000, 1024, 224), (16000, 999, 64), (44100, 2048, 128), (8000, 256, 23), (1500, 256, 9)],
)
def test_mel_filters_are_librosa_s(rate, n_fft, mels):
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=mels, dtype=np.float64)
    np.testing.assert_allclose(mel_filters(rate, n_fft, mels).T, expected, rtol=1e-10, atol=1e-12 * expected.max())


def test_the_log_mel_has_so_many_frames():
    for samples in (1, 511, 512, 16000, 160000):
        for settings in (LogMel(), LogMel(n_fft=999, hop=501, mels=64)):
            assert frames(samples, settings) == audio.log_mel(np.zeros(samples, np.float32), settings).shape[1]


def test_more_bins_than_the_transform_can_fill():
    with pytest.raises(InputError, match=r"logmel\.mels: 224 bins are too many for n_fft 256"):
        mel_filters(16000, 256, 224)
