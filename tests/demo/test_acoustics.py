"""The excitations of the demo: tones, noise, impacts, and the microphone."""

import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from asd.demo.acoustics import RATE, Take, band, impacts, noise, passes, pickup, ratio, ringing, stream, tones, turning


def take(samples=RATE, seed=0):
    return Take(stream("excitations", seed), ("unit",), {}, samples)


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.integers(1, 90), st.floats(0.1, 1.0), min_size=1, max_size=5), st.floats(5.0, 60.0))
def test_tones_are_sums_of_cosines(orders, rate):
    turns = np.arange(RATE) * rate / RATE
    sound = tones(take(), turns, orders, spread=0.0)
    basis = [f(2 * np.pi * k * turns) for k in orders for f in (np.cos, np.sin)]
    weights, *_ = np.linalg.lstsq(np.stack(basis, axis=1), sound, rcond=None)
    assert np.hypot(*weights.reshape(-1, 2).T) == pytest.approx(list(orders.values()), rel=2e-3)
    assert np.std(sound - weights @ basis) < 1e-3 * np.std(sound)


def test_tones_above_half_the_rate_are_left_out():
    sound = tones(take(), np.arange(RATE) * 100 / RATE, {10: 1.0, 79: 1.0, 200: 1.0}, spread=0.0)
    f, power = scipy.signal.periodogram(sound, RATE)
    assert f[power > 0.01 * power.max()].tolist() == [1000.0]


def test_noise_and_impacts_have_the_level_that_they_say():
    for response in (band(RATE, 500, 3000), ringing(RATE, [800.0, 2500.0], 8.0)):
        hiss = np.fft.irfft(noise(take(), response, ratio(-6.0)), RATE)
        assert 10 * math.log10(np.mean(hiss**2)) == pytest.approx(-6, abs=0.6)
        strikes = np.fft.irfft(impacts(take(), np.array([0.3]), 1.0, response), RATE)
        assert np.mean(strikes**2) == pytest.approx(1, rel=0.02)


def test_impacts_outside_the_clip_are_left_out():
    spectrum = impacts(take(), np.array([[-0.1, 0.5], [1.0, 2.0]]), 1.0, np.ones(RATE // 2 + 1))
    assert np.flatnonzero(np.abs(np.fft.irfft(spectrum, RATE)) > 1e-6).tolist() == [RATE // 2]


def test_passes_are_the_times_of_whole_turns():
    assert passes(np.arange(RATE) * 2.5 / RATE + 0.25) == pytest.approx([0.3, 0.7])
    times = passes(turning(take(), 20.0))
    assert len(times) == pytest.approx(20, abs=1)
    assert np.diff(times) == pytest.approx(1 / 20, rel=0.02)


def test_a_microphone_does_not_change_from_clip_to_clip():
    assert np.array_equal(pickup(RATE, "loc_A"), pickup(RATE, "loc_A"))
    assert not np.allclose(pickup(RATE, "loc_A"), pickup(RATE, "loc_B"))
