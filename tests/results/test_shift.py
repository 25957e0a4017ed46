"""Unlabelled recordings that differ as a whole from those that were learnt from are noticed, single ones are not."""

import numpy as np
import pytest
import soundfile
from conftest import RATE, manifest, manifest_row
from scipy.signal import butter, sosfilt

from asd.cache import open_cache, write_cache
from asd.corpus import write_manifest
from asd.results.shift import remarks
from asd.settings import LogMel

BAND = butter(4, (1000, 1500), "bandpass", fs=RATE, output="sos")


def noise(seed: int, gain: float = 1.0, band: float = 0.0) -> np.ndarray:
    """A second of noise whose level varies a little from clip to clip, with more of it between 1 and 1.5 kHz."""
    random = np.random.default_rng(seed)
    sound = random.normal(0, 0.05, RATE)
    return gain * random.uniform(0.95, 1.05) * (sound + band * sosfilt(BAND, sound))


def said(tmp_path, test: list[np.ndarray], training: int = 20, label: str = "") -> dict[str, str]:
    """The remarks on these test recordings beside so many training recordings."""
    sounds = {f"train_{number}.wav": noise(number) for number in range(training)}
    sounds |= {f"test_{number}.wav": sound for number, sound in enumerate(test)}
    for name, sound in sounds.items():
        soundfile.write(tmp_path / name, sound, RATE, "PCM_16")
    rows = [manifest_row(str(tmp_path / name), name.split("_")[0]) for name in sounds]
    rows = [row | ({"label": label} if row["split"] == "test" else {}) for row in rows]
    write_manifest(tmp_path / "manifest.csv", manifest(*rows))
    write_cache(tmp_path / "fan.h5", tmp_path / "manifest.csv", LogMel(mels=64))
    with open_cache(tmp_path / "fan.h5") as cache:
        return remarks(cache)


def test_recordings_like_those_of_the_training_are_nothing_to_remark_on(tmp_path):
    assert said(tmp_path, [noise(100 + seed) for seed in range(10)]) == {}


def test_quieter_recordings(tmp_path):
    remark = said(tmp_path, [noise(100 + seed, gain=0.5) for seed in range(10)])["00"]
    assert remark.startswith("the unlabelled recordings are as a whole ")
    assert 5 < float(remark.split(" dB quieter than the training recordings")[0].split()[-1]) < 7  # 6 dB
    assert "medians -32." in remark
    assert "and -26." in remark  # noise of 0.05 has -26 dB
    assert "kHz" not in remark


def test_recordings_with_another_spectrum(tmp_path):
    remark = said(tmp_path, [noise(100 + seed, band=2.0) for seed in range(10)])["00"]
    low, high = remark.split("stronger from ")[1].split(" kHz")[0].split(" to ")
    assert 0.8 < float(low) < float(high) < 1.8
    assert "quieter" not in remark


@pytest.mark.parametrize(
    ("test", "training", "label"), [(10, 4, ""), (4, 20, ""), (10, 20, "normal"), (10, 20, "anomaly")]
)
def test_of_few_or_labelled_recordings_nothing_is_said(tmp_path, test, training, label):
    assert said(tmp_path, [noise(100 + seed, gain=0.5) for seed in range(test)], training, label) == {}


def test_some_anomalies_are_not_the_whole(tmp_path):
    sounds = [noise(100 + seed, gain=0.5 if seed < 4 else 1) for seed in range(10)]
    assert said(tmp_path, sounds) == {}
