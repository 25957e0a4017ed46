"""Which frequencies make a clip anomalous: by hand-computed conditional means, and on faults of known frequency."""

import numpy as np
import pytest

from asd import audio, gaussian
from asd.bands import BANDS, band_edges, band_shares
from asd.demo.synthesis import write_machine
from asd.mel import mel_edges
from asd.sections import Section
from asd.settings import LogMel, Mvg, Spectrum
from asd.spectra import pooled


@pytest.mark.parametrize("count", [12, 60])  # fewer rows than features, and more
def test_the_fall_is_that_of_a_group_at_its_conditional_mean(count):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, 20)) @ rng.standard_normal((20, 20))
    row = 3 * rng.standard_normal(20)
    fitted = gaussian.fit(rows, Mvg(standardise=True))
    groups = [np.arange(4), np.array([4, 9, 17]), np.array([19])]
    found = fitted.falls(row, 0, groups)
    deviation = rows.std(0)
    inner = fitted.factor.T @ fitted.factor
    precision = fitted.isotropic * np.eye(20) - inner if fitted.isotropic else inner
    covariance = np.linalg.inv(precision)
    for fall, group in zip(found, groups, strict=True):
        rest = np.setdiff1d(np.arange(20), group)
        z = (row - rows.mean(0)) / deviation
        before = z @ precision @ z
        z[group] = covariance[np.ix_(group, rest)] @ np.linalg.solve(covariance[np.ix_(rest, rest)], z[rest])
        assert fall == pytest.approx(before - z @ precision @ z, rel=1e-6)
        assert fall >= 0


@pytest.fixture(scope="module")
def normals(tmp_path_factory):
    """Normal clips of a demo's fan, (clips, samples) float32."""
    import soundfile

    from asd.settings import Demo

    folder = tmp_path_factory.mktemp("demo")
    write_machine(folder, "fan", Demo(sections=1, train_source=24, train_target=0, test=1, seconds=1.0))
    paths = sorted(folder.rglob("train/*.wav"))
    return np.stack([soundfile.read(path, dtype="float32")[0] for path in paths])


def band_of(hertz: float, settings: LogMel) -> int:
    """The band that holds the mel bin of a frequency."""
    bin_of = int(np.searchsorted(mel_edges(settings.rate, settings.mels)[1:-1], hertz))
    return int(np.searchsorted(band_edges(settings.mels), bin_of, side="right")) - 1


@pytest.mark.parametrize("hertz", [700, 2300, 5200])
def test_a_whistle_is_found_where_it_whistles(normals, hertz):
    settings, spectrum = LogMel(), Spectrum(pool=["gwrp"], decays=[1.0, 0.95])
    time = np.arange(normals.shape[1]) / settings.rate
    whistle = normals[-1] + 0.3 * normals[-1].std() * np.sin(2 * np.pi * hertz * time).astype(np.float32)
    logmels = np.stack([audio.log_mel(one, settings) for one in [*normals[:-1], whistle]])
    rows = pooled(logmels, spectrum)
    section = Section(gaussian.fit(rows[:-1], Mvg(standardise=True)), np.ones(1))
    shares = band_shares(section, rows[-1], settings.mels)
    assert shares.shape == (BANDS,)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert abs(int(shares.argmax()) - band_of(hertz, settings)) <= 1
