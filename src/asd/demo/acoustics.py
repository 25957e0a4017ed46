"""What the sounds of the demo corpus are made of: tones locked to a shaft, noise, impacts, resonances, a factory hall.

Excitations are put together as spectra (`numpy.fft.rfft` of a whole clip), so that a filter is a product. Levels
are root mean squares relative to a machine in normal work, which is about 1 (0 dB).
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
"""Points of one period of a tone; linear interpolation errs by less than -60 dB up to the hundredth order."""


@dataclass(frozen=True)
class Take:
    """The circumstances of one clip."""

    rng: Generator
    """What differs from clip to clip."""
    unit: tuple
    """Names the physical machine: the seed, the kind and the section."""
    values: dict[str, str]
    """Attributes, as in the file name."""
    samples: int
    """Length of the sound."""
    fault: str = ""
    """One of the kind's faults, or none."""
    severity: float = 0.0
    """Of the fault, from 0 (none) to 1."""

    def has(self, fault: str) -> float:
        """The severity of this fault, 0 where the machine has another or none."""
        return self.severity if self.fault == fault else 0.0


def stream(*names: object) -> Generator:
    """A random generator that depends on these names and on nothing else."""
    seed = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.default_rng(np.frombuffer(seed, dtype="<u4"))


def ratio(decibels: float | np.ndarray) -> float | np.ndarray:
    """A level in dB as a factor of amplitude."""
    return 10 ** (decibels / 20)


# --- excitations --------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def frequencies(samples: int) -> np.ndarray:
    """Frequencies (samples // 2 + 1,) of a clip's spectrum, in Hz."""
    return np.fft.rfftfreq(samples, 1 / RATE)


def drift(rng: Generator, samples: int, deviation: float, every: float = 0.25) -> np.ndarray:
    """A slow random curve (samples,): normal deviates every so many seconds, joined by straight lines."""
    step = int(every * RATE)
    knots = rng.normal(0, deviation, samples // step + 2)
    return np.interp(np.arange(samples), step * np.arange(len(knots)), knots)


def turning(take: Take, rate: float | np.ndarray, wander: float = 0.002) -> np.ndarray:
    """Turns (samples,) of a shaft at `rate` Hz, whose speed wanders by a relative `wander`."""
    speed = rate * (1 + drift(take.rng, take.samples, wander))
    return take.rng.random() + np.cumsum(speed) / RATE


def tones(take: Take, turns: np.ndarray, orders: dict[int, float], spread: float = 1.0) -> np.ndarray:
    """Sound (samples,) of a periodic excitation: amplitude by order of the shaft, each `spread` dB from clip to clip.

    One period is tabulated and looked up, so that the cost does not grow with the orders. Orders that would
    pass half the sample rate are left out.
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
    """Spectrum (samples // 2 + 1,) of white noise under an envelope (samples,), filtered."""
    return np.fft.rfft(envelope * take.rng.standard_normal(take.samples)) * filtered


def impacts(take: Take, times: np.ndarray, strength: float | np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """Spectrum (samples // 2 + 1,) of impacts at `times` (s, any shape); one a second of strength 1 has level 1."""
    index = np.rint(times * RATE).astype(int)
    inside = (index >= 0) & (index < take.samples)
    weights = np.broadcast_to(strength, index.shape)[inside] * math.sqrt(RATE)
    return np.fft.rfft(np.bincount(index[inside], weights, take.samples)) * filtered


def knocking(
    take: Take, times: np.ndarray, decibels: float, spread: float, filtered: np.ndarray, load: float | np.ndarray = 1.0
) -> np.ndarray:
    """Spectrum of a train of impacts, so many dB in all whatever their rate; each differs by a relative `spread`."""
    force = ratio(decibels) / math.sqrt(max(len(times), 1) * RATE / take.samples)
    return impacts(take, times, force * load * take.rng.normal(1, spread, len(times)), filtered)


def passes(turns: np.ndarray) -> np.ndarray:
    """Times (s) at which a shaft completes a turn."""
    marks = np.arange(math.ceil(turns[0]), math.floor(turns[-1]) + 1)
    return np.interp(marks, turns, np.arange(len(turns))) / RATE


def swing(turns: np.ndarray, depth: float) -> np.ndarray:
    """Envelope (samples,) around 1 that swings once a turn."""
    return 1 + depth * np.cos(2 * math.pi * turns)


def near(turns: np.ndarray, width: float) -> np.ndarray:
    """Envelope (samples,) of mean square 1 that opens once a turn, for about a part `width` of it."""
    away = turns - np.rint(turns)
    return np.exp(-0.5 * (away / width) ** 2) / math.sqrt(width * math.sqrt(math.pi))


def level(response: np.ndarray) -> np.ndarray:
    """The response scaled to pass white noise, or an impact, with its energy unchanged."""
    return response / np.sqrt(np.mean(np.abs(response) ** 2))


@lru_cache(maxsize=16)
def band(samples: int, low: float, high: float) -> np.ndarray:
    """Response of a band of noise, falling by 12 dB an octave outside it, at unit level."""
    f = np.maximum(frequencies(samples), 1.0)
    return level(1 / np.sqrt((1 + (low / f) ** 4) * (1 + (f / high) ** 4)))


def mode(f: np.ndarray, centre: float, quality: float) -> np.ndarray:
    """Response at `f` Hz of one damped mode, 1 at its centre: an impact rings for about quality / (pi centre) s."""
    damping = 1j * f / (centre * quality)
    return damping / (1 - (f / centre) ** 2 + damping)


def ringing(samples: int, centres: Iterable[float], quality: float) -> np.ndarray:
    """Response of equal modes at `centres` Hz, at unit level."""
    return _ringing(samples, tuple(centres), quality)


@lru_cache(maxsize=8)
def _ringing(samples: int, centres: tuple[float, ...], quality: float) -> np.ndarray:
    return level(sum(mode(frequencies(samples), centre, quality) for centre in centres))


@lru_cache(maxsize=4)
def body(unit: tuple, samples: int, size: float) -> np.ndarray:
    """Response of a unit's housing: seven modes of its own, the lower the larger it is. At unit level."""
    own = stream(*unit, "body")
    response = np.ones(samples // 2 + 1, dtype=complex)
    for centre in np.geomspace(250, 5500, 7) * own.uniform(0.8, 1.25, 7) / size:
        quality, gain = own.uniform(4, 12), ratio(own.uniform(0, 9))
        response += gain * mode(frequencies(samples), centre, quality)
    return level(response)


# --- faults that several kinds share ------------------------------------------------------------------------


def rubbing(take: Take, turns: np.ndarray, decibels: float) -> np.ndarray:
    """Spectrum of a part that grazes another in a part of each turn: bursts of high noise."""
    grazing = near(turns + take.rng.random(), 0.06)
    return noise(take, band(take.samples, 1500, 5000), ratio(decibels) * grazing)


def rattle(take: Take, turns: np.ndarray, decibels: float) -> np.ndarray:
    """Spectrum of a loose part that the shaft throws against its seat in six turns of ten, harder or softer."""
    times = passes(turns + take.rng.random())
    times = times[take.rng.random(len(times)) < 0.6]
    times = times + take.rng.normal(0, 0.002, len(times))
    seat = ringing(take.samples, take.rng.uniform(1200, 4500, 3), 12)
    return knocking(take, times, decibels, 0.0, seat, take.rng.gamma(2, 0.5, len(times)))


# --- around the machine -------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _tilted(samples: int, kind: str) -> np.ndarray:
    own = stream("hall", kind)
    f = np.maximum(frequencies(samples), 1.0)
    tilt, hump, height = own.uniform(0.5, 0.9), own.uniform(400, 3000), own.uniform(0, 4)
    return level(f**-tilt / (1 + (60 / f) ** 4) * ratio(height * np.exp(-(np.log2(f / hump) ** 2))))


def hall(take: Take, kind: str, neighbour: float) -> np.ndarray:
    """Spectrum of a factory's background, about 0 dB: broad noise that swells, a neighbouring machine, clanks.

    `kind` names the hall (or the corner of it): its tilt, its neighbour's speed and tones, the same in every clip.
    `neighbour` is the level of that machine, in dB.
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
    """Response of a microphone at a place: a loss of treble, a reflection (a comb), a level. The same in every clip."""
    own = stream("pickup", place)
    f = frequencies(samples)
    corner, delay, strength = own.uniform(3000, 8000), own.uniform(0.3e-3, 3e-3), own.uniform(0.1, 0.5)
    gain = ratio(own.uniform(-2, 2))
    return gain * (1 + strength * np.exp(-2j * math.pi * f * delay)) / np.sqrt(1 + (f / corner) ** 2)
