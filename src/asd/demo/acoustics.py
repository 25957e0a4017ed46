"""What the sounds of the demo corpus are made of: tones of a shaft, noise, impacts, resonances, background noise.

Excitations are added as spectra, and a filter is a product with its frequency response. Spectra and responses have the
shape (samples // 2 + 1,), complex, as `numpy.fft.rfft` of a whole clip. Levels are root mean squares relative to a
machine in normal operation, which is about 1 (0 dB).
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator

RATE = 16000
"""Sample rate in Hz."""

TABLE = 8192
"""Points of one period of a tone; the error of linear interpolation is below -60 dB up to the hundredth order."""


@dataclass(frozen=True)
class Take:
    """The circumstances of one clip."""

    rng: Generator
    """What differs from clip to clip."""
    unit: tuple
    """The name of the physical machine: the seed, the kind and the section."""
    values: dict[str, str]
    """Attributes, as in the file name."""
    samples: int
    """Length of the sound."""
    fault: str = ""
    """One of the faults of this kind of machine, or empty."""
    severity: float = 0.0
    """Severity of the fault, from 0 (none) to 1."""

    def has(self, fault: str) -> float:
        """The severity of this fault; 0 if the machine has another one or none."""
        return self.severity if self.fault == fault else 0.0


def stream(*names: object) -> Generator:
    """A random generator that depends on these names and on nothing else."""
    seed = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.default_rng(np.frombuffer(seed, dtype="<u4"))


def ratio(decibels: float | np.ndarray) -> float | np.ndarray:
    """A level in dB (of any shape) as a factor of amplitude."""
    return 10 ** (decibels / 20)


# --- excitations --------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def frequencies(samples: int) -> np.ndarray:
    """The frequencies of a clip's spectrum in Hz, (samples // 2 + 1,) float64."""
    return np.fft.rfftfreq(samples, 1 / RATE)


def drift(rng: Generator, samples: int, deviation: float, every: float = 0.25) -> np.ndarray:
    """A slow random curve, (samples,): normal deviates, with straight lines between them.

    Args:
        rng: draws the deviates.
        samples: length of the curve.
        deviation: standard deviation of the deviates.
        every: seconds from one deviate to the next.
    """
    step = int(every * RATE)
    knots = rng.normal(0, deviation, samples // step + 2)
    return np.interp(np.arange(samples), step * np.arange(len(knots)), knots)


def turning(take: Take, rate: float | np.ndarray, wander: float = 0.002) -> np.ndarray:
    """The angle of a shaft in turns, (samples,), which begins at a random angle.

    Args:
        take: the circumstances of the clip.
        rate: turns per second, a number or (samples,).
        wander: relative standard deviation of the speed, which changes slowly.
    """
    speed = rate * (1 + drift(take.rng, take.samples, wander))
    return take.rng.random() + np.cumsum(speed) / RATE


def tones(take: Take, turns: np.ndarray, orders: dict[int, float], spread: float = 1.0) -> np.ndarray:
    """The sound of a periodic excitation, (samples,).

    One period is tabulated and looked up, so that the cost does not grow with the number of orders. Orders above half
    the sample rate are left out.

    Args:
        take: the circumstances of the clip.
        turns: (samples,) the angle of the shaft in turns.
        orders: multiples of the shaft's rate -> their amplitudes.
        spread: standard deviation of the amplitudes from clip to clip, in dB.
    """
    highest = RATE / 2.1 / (np.max(np.diff(turns)) * RATE)
    period = np.zeros(TABLE // 2 + 1, dtype=complex)
    for order, amplitude in orders.items():
        phase, level = take.rng.random(), take.rng.normal(0, spread)
        if order < min(highest, TABLE // 2):
            period[order] = amplitude * ratio(level) * np.exp(2j * math.pi * phase) * TABLE / 2
    table = np.fft.irfft(period)
    table = np.append(table, table[0])
    place = (turns - np.floor(turns)) * TABLE
    index = place.astype(np.intp)
    return table[index] + (place - index) * (table[index + 1] - table[index])


def noise(take: Take, filtered: np.ndarray, envelope: float | np.ndarray = 1.0) -> np.ndarray:
    """The spectrum of filtered white noise.

    Args:
        take: the circumstances of the clip.
        filtered: frequency response of the filter.
        envelope: factor of the noise before the filter, a number or (samples,).
    """
    return np.fft.rfft(envelope * take.rng.standard_normal(take.samples)) * filtered


def impacts(take: Take, times: np.ndarray, strength: float | np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """The spectrum of impacts. One impact per second of strength 1 has the level 1.

    Args:
        take: the circumstances of the clip.
        times: of the impacts in seconds, of any shape; impacts outside the clip are left out.
        strength: of the impacts, in a shape that can be broadcast to that of the times.
        filtered: frequency response of what is struck.
    """
    index = np.rint(times * RATE).astype(int)
    inside = (index >= 0) & (index < take.samples)
    weights = np.broadcast_to(strength, index.shape)[inside] * math.sqrt(RATE)
    return np.fft.rfft(np.bincount(index[inside], weights, take.samples)) * filtered


def knocking(
    take: Take, times: np.ndarray, decibels: float, spread: float, filtered: np.ndarray, load: float | np.ndarray = 1.0
) -> np.ndarray:
    """The spectrum of a series of impacts whose level does not depend on their number.

    Args:
        take: the circumstances of the clip.
        times: (impacts,) in seconds.
        decibels: level of all impacts together.
        spread: relative standard deviation of their strengths.
        filtered: frequency response of what is struck.
        load: factor of their strengths, a number or (impacts,).
    """
    force = ratio(decibels) / math.sqrt(max(len(times), 1) * RATE / take.samples)
    return impacts(take, times, force * load * take.rng.normal(1, spread, len(times)), filtered)


def passes(turns: np.ndarray) -> np.ndarray:
    """The times in seconds, (passes,), at which a shaft completes a turn; `turns` is its angle, (samples,)."""
    marks = np.arange(math.ceil(turns[0]), math.floor(turns[-1]) + 1)
    return np.interp(marks, turns, np.arange(len(turns))) / RATE


def swing(turns: np.ndarray, depth: float) -> np.ndarray:
    """An envelope (samples,) around 1 that swings once per turn of a shaft whose angle is `turns`, (samples,)."""
    return 1 + depth * np.cos(2 * math.pi * turns)


def near(turns: np.ndarray, width: float) -> np.ndarray:
    """An envelope (samples,) of mean square 1 that opens once per turn, for about the share `width` of it."""
    away = turns - np.rint(turns)
    return np.exp(-0.5 * (away / width) ** 2) / math.sqrt(width * math.sqrt(math.pi))


def level(response: np.ndarray) -> np.ndarray:
    """A frequency response (samples // 2 + 1,), scaled so that noise and impacts have the same energy after it."""
    return response / np.sqrt(np.mean(np.abs(response) ** 2))


@lru_cache(maxsize=16)
def band(samples: int, low: float, high: float) -> np.ndarray:
    """A frequency response that falls by 12 dB per octave outside a band, at unit level (see `level`).

    Args:
        samples: of the clip.
        low: lower end of the band in Hz.
        high: upper end of the band in Hz.
    """
    f = np.maximum(frequencies(samples), 1.0)
    return level(1 / np.sqrt((1 + (low / f) ** 4) * (1 + (f / high) ** 4)))


def mode(f: np.ndarray, centre: float, quality: float) -> np.ndarray:
    """The frequency response of one damped mode, 1 at its centre.

    An impact rings for about quality / (pi centre) seconds.

    Args:
        f: (frequencies,) in Hz.
        centre: of the mode in Hz.
        quality: quality factor: centre by bandwidth.
    """
    damping = 1j * f / (centre * quality)
    return damping / (1 - (f / centre) ** 2 + damping)


def ringing(samples: int, centres: Iterable[float], quality: float) -> np.ndarray:
    """The frequency response of several modes of equal height, at unit level (see `level`).

    Args:
        samples: of the clip.
        centres: of the modes in Hz.
        quality: quality factor of the modes.
    """
    return _ringing(samples, tuple(centres), quality)


@lru_cache(maxsize=8)
def _ringing(samples: int, centres: tuple[float, ...], quality: float) -> np.ndarray:
    return level(sum(mode(frequencies(samples), centre, quality) for centre in centres))


@lru_cache(maxsize=4)
def body(unit: tuple, samples: int, size: float) -> np.ndarray:
    """The frequency response of a unit's housing, with seven modes of its own, at unit level (see `level`).

    Args:
        unit: the name of the physical machine.
        samples: of the clip.
        size: relative size of the housing; the larger, the lower its modes.
    """
    own = stream(*unit, "body")
    response = np.ones(samples // 2 + 1, dtype=complex)
    for centre in np.geomspace(250, 5500, 7) * own.uniform(0.8, 1.25, 7) / size:
        quality, gain = own.uniform(4, 12), ratio(own.uniform(0, 9))
        response += gain * mode(frequencies(samples), centre, quality)
    return level(response)


# --- faults that several kinds share ------------------------------------------------------------------------


def rubbing(take: Take, turns: np.ndarray, decibels: float) -> np.ndarray:
    """The spectrum of a part that rubs against another during a part of each turn: bursts of high noise.

    Args:
        take: the circumstances of the clip.
        turns: (samples,) the angle of the shaft in turns.
        decibels: level.
    """
    grazing = near(turns + take.rng.random(), 0.06)
    return noise(take, band(take.samples, 1500, 5000), ratio(decibels) * grazing)


def rattle(take: Take, turns: np.ndarray, decibels: float) -> np.ndarray:
    """The spectrum of a loose part that the shaft throws against its seat in six turns of ten, harder or softer.

    Args:
        take: the circumstances of the clip.
        turns: (samples,) the angle of the shaft in turns.
        decibels: level.
    """
    times = passes(turns + take.rng.random())
    times = times[take.rng.random(len(times)) < 0.6]
    times = times + take.rng.normal(0, 0.002, len(times))
    seat = ringing(take.samples, take.rng.uniform(1200, 4500, 3), 12)
    return knocking(take, times, decibels, 0.0, seat, take.rng.gamma(2, 0.5, len(times)))


# --- around the machine -------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _tilted(samples: int, kind: str) -> np.ndarray:
    own = stream("hall", kind)  # the name is a seed
    f = np.maximum(frequencies(samples), 1.0)
    tilt, hump, height = own.uniform(0.5, 0.9), own.uniform(400, 3000), own.uniform(0, 4)
    return level(f**-tilt / (1 + (60 / f) ** 4) * ratio(height * np.exp(-(np.log2(f / hump) ** 2))))


def background(take: Take, kind: str, neighbour: float) -> np.ndarray:
    """The spectrum (samples // 2 + 1,) of a factory's noise, about 0 dB: noise, a neighbouring machine, single impacts.

    Args:
        take: the circumstances of the clip.
        kind: the name of the background. Its spectrum and the neighbour's speed and tones are the same in every clip.
        neighbour: level of the neighbouring machine, in dB.
    """
    sound = noise(take, _tilted(take.samples, kind), 0.85 * ratio(drift(take.rng, take.samples, 1.5, 0.5)))
    own = stream("neighbour", kind)
    orders = own.choice(np.arange(2, 60), 10, replace=False)
    turns = turning(take, own.uniform(20, 40) * take.rng.normal(1, 0.01), 0.002)
    loud = ratio(neighbour + take.rng.normal(0, 2)) / np.sqrt(orders)
    sound += np.fft.rfft(tones(take, turns, dict(zip(orders, loud, strict=True))))
    times = take.rng.uniform(0, take.samples / RATE, take.rng.poisson(0.3 * take.samples / RATE))
    strength = 0.15 * take.rng.gamma(1.0, 1.0, len(times))
    return sound + impacts(take, times, strength, ringing(take.samples, take.rng.uniform(500, 4000, 3), 40))


@lru_cache(maxsize=8)
def pickup(samples: int, place: str) -> np.ndarray:
    """The frequency response (samples // 2 + 1,) of a microphone, equal in all clips: low-pass, one reflection, gain.

    Args:
        samples: of the clip.
        place: the name of the microphone or of its place.
    """
    own = stream("pickup", place)
    f = frequencies(samples)
    corner, delay, strength = own.uniform(3000, 8000), own.uniform(0.3e-3, 3e-3), own.uniform(0.1, 0.5)
    gain = ratio(own.uniform(-2, 2))
    return gain * (1 + strength * np.exp(-2j * math.pi * f * delay)) / np.sqrt(1 + (f / corner) ** 2)
