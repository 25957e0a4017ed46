"""Seven kinds of machine: how they sound, normal and faulty.

A machine's sound is a sum of excitations (tones locked to a shaft, noise, impacts) in which every rate follows
from the speed and the geometry of the machine. The kinds, their attributes and their faults follow the descriptions
of MIMII DG (Dohi et al. 2022) and ToyADMOS2 (Harada et al. 2021), not their recordings. A *unit* is one physical
machine of a kind, with a geometry and resonances of its own: a section of the corpus has one.

Each kind has two functions: the rates (Hz) that follow from a unit's geometry and a clip's attributes, and the
spectrum (samples // 2 + 1,) of a clip's sound, about 0 dB in normal operation at usual speed. Their docstrings say what
is modelled and where the formulae come from. Numbers without a source were chosen by listening and by looking at
spectrograms.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from asd.demo.acoustics import (
    RATE,
    Take,
    band,
    body,
    impacts,
    knocking,
    near,
    noise,
    passes,
    ratio,
    rattle,
    ringing,
    rubbing,
    stream,
    swing,
    tones,
    turning,
)

GRAVITY = 9.81
"""Metres per second squared; a slider's acceleration `ac` is in units of it."""


def fan_rates(unit: Generator, values: dict[str, str]) -> dict[str, float]:
    """Shaft and blade-pass rate: blades times shaft (Tyler & Sofrin 1962). `vel` is in turns per minute."""
    blades, shaft = int(unit.integers(5, 10)), unit.uniform(18, 28)
    shaft = float(values.get("vel", 60 * shaft)) / 60
    return {"shaft": shaft, "blade_pass": blades * shaft}


def fan(take: Take) -> np.ndarray:
    """An axial fan: harmonics of the blade-pass rate, and turbulence whose level the blades modulate.

    Faults: imbalance (the shaft's own rate, and all sound swings with it), clogged flow (less high turbulence,
    slow fluctuations, stronger blade tones), rubbing (a blade touches the housing), loose part.
    """
    rate = fan_rates(stream(*take.unit), take.values)
    blades = round(rate["blade_pass"] / rate["shaft"])
    shaft = turning(take, rate["shaft"] * take.rng.normal(1, 0.004))
    imbalance, clogged = take.has("imbalance"), take.has("clogged flow")
    orders = {1: 0.1 + 0.3 * imbalance, 2: 0.05 + 0.1 * imbalance}
    orders |= {blades * k: (0.6 + 0.3 * clogged) / k for k in range(1, 11)}
    wobble = swing(shaft, 0.4 * imbalance)
    flow = ratio(-1 - 1.5 * clogged) * wobble * swing(blades * shaft, 0.25)
    if clogged:
        flow *= swing(turning(take, take.rng.uniform(2, 5), 0.1), 0.6 * clogged)
    sound = np.fft.rfft(wobble * tones(take, shaft, orders))
    sound += noise(take, band(take.samples, 120, 2400 * (1 - 0.25 * clogged)), flow)
    if rubs := take.has("rubbing"):
        sound += rubbing(take, shaft, -20 + 10 * rubs)
    if loose := take.has("loose part"):
        sound += rattle(take, shaft, -18 + 10 * loose)
    return sound * body(take.unit, take.samples, 1.3)


def gearbox_rates(unit: Generator, values: dict[str, str]) -> dict[str, float]:
    """Shafts and gear mesh: teeth times shaft (Randall 1982).

    A direct-current motor turns in proportion to its voltage `volt` (V) and slows under the weight `wt` (g) that it
    lifts; `id` is another pair of gears in the same housing.
    """
    pinion, wheel, turns_per_volt = int(unit.integers(13, 20)), int(unit.integers(29, 48)), unit.uniform(7, 10)
    if "id" in values:
        pinion, wheel = pinion + int(values["id"]) % 4, wheel + int(values["id"]) % 7
    shaft = turns_per_volt * float(values.get("volt", 2.0)) * (1 - 0.0005 * float(values.get("wt", 0)))
    return {"shaft": shaft, "output": shaft * pinion / wheel, "mesh": shaft * pinion}


def gearbox(take: Take) -> np.ndarray:
    """A pair of gears: harmonics of the mesh rate with sidebands one shaft away (Randall 1982), motor, sliding teeth.

    Faults: imbalance (the wheel is not centred: strong sidebands), chipped tooth (an impact per turn of the wheel),
    wear (higher mesh harmonics, more noise), loose part.
    """
    rate = gearbox_rates(stream(*take.unit), take.values)
    pinion = round(rate["mesh"] / rate["shaft"])
    shaft = turning(take, rate["shaft"] * take.rng.normal(1, 0.004))
    wheel = shaft * rate["output"] / rate["shaft"] + take.rng.random()
    load, worn = 1 + float(take.values.get("wt", 50)) / 300, 0.4 * take.has("wear")
    mesh = tones(take, shaft, {pinion: 0.8, 2 * pinion: 0.5 + worn, 3 * pinion: 0.3 + worn, 4 * pinion: 0.2 + worn})
    motor = tones(take, shaft, {1: 0.15, 2: 0.1, 6: 0.25, 12: 0.2, 18: 0.1, 24: 0.1})
    runout = swing(shaft, 0.15) * swing(wheel, 0.1 + 0.7 * take.has("imbalance"))
    sound = np.fft.rfft(load * runout * mesh + motor)
    sound += noise(take, band(take.samples, 300, 3500), ratio(-3 + 4 * worn) * (1 + 0.3 * mesh))
    if chipped := take.has("chipped tooth"):
        steel = ringing(take.samples, [900, 2100, 3300], 8)
        sound += knocking(take, passes(wheel), -12 + 9 * chipped, 0.15, steel)
    if loose := take.has("loose part"):
        sound += rattle(take, shaft, -12 + 9 * loose)
    return sound * body(take.unit, take.samples, 1.0) * ratio(5 * math.log10(rate["shaft"] / 17))


def bearing_rates(unit: Generator, values: dict[str, str]) -> dict[str, float]:
    """Shaft, cage and defect rates of a rolling-element bearing (Randall & Antoni 2011, equations 1 to 4).

    With n balls of diameter d on a pitch circle D at contact angle a, and q = d / D cos a: outer race n / 2 (1 - q),
    inner race n / 2 (1 + q), cage (1 - q) / 2, ball D / d (1 - q^2) (twice its spin: its flaw strikes both races),
    all times the shaft, whose `vel` is in turns per second.
    """
    balls, size, angle = int(unit.integers(7, 13)), unit.uniform(0.18, 0.30), math.radians(unit.uniform(0, 15))
    q, shaft = size * math.cos(angle), float(values["vel"])
    orders = {"outer": balls * (1 - q) / 2, "inner": balls * (1 + q) / 2, "ball": (1 - q * q) / size}
    return {"shaft": shaft, "cage": shaft * (1 - q) / 2} | {flaw: shaft * order for flaw, order in orders.items()}


def bearing(take: Take) -> np.ndarray:
    """A rolling-element bearing: rolling noise that swings with the cage, harmonics of the shaft and of its drive.

    Faults: a flaw in the outer race, the inner race or a ball (impacts at the defect rate with one per cent of jitter;
    those of the inner race and the ball grow and fade as the flaw passes the load, once per turn of the shaft or the
    cage), imbalance, dry (high noise).
    """
    rate = bearing_rates(stream(*take.unit), take.values)
    shaft = turning(take, rate["shaft"] * take.rng.normal(1, 0.004))
    cage = shaft * rate["cage"] / rate["shaft"] + take.rng.random()
    drive = stream(*take.unit, "drive").choice(np.arange(8, 90), 8, replace=False)
    orders = {1: 0.25 + 0.8 * take.has("imbalance"), 2: 0.15, 3: 0.1} | dict.fromkeys(drive.tolist(), 0.35)
    sound = np.fft.rfft(tones(take, shaft, orders))
    sound += noise(take, band(take.samples, 200, 3500), ratio(-2) * swing(cage, 0.15))
    if dry := take.has("dry"):
        sound += noise(take, band(take.samples, 2500, 6000), ratio(-14 + 9 * dry) * swing(shaft, 0.5))
    for flaw, loading in (("outer", 0 * shaft), ("inner", shaft), ("ball", cage)):
        if depth := take.has(flaw):
            times = passes(shaft * rate[flaw] / rate["shaft"] + take.rng.random())
            load = np.interp(times * RATE, np.arange(take.samples), swing(loading, 0.8))
            times = times + take.rng.normal(0, 0.01 / rate[flaw], len(times))
            race = ringing(take.samples, stream(*take.unit, "race").uniform(2000, 5000, 2), 10)
            sound += knocking(take, times, -15 + 9 * depth, 0.0, race, load)
    return sound * body(take.unit, take.samples, 0.8) * ratio(8 * math.log10(rate["shaft"] / 14))


def slider_rates(unit: Generator, values: dict[str, str]) -> dict[str, float]:
    """Strokes per second, and turns of the screw at full speed, of a trapezoidal motion.

    A stroke of length L at speed v (`vel`, mm/s) and acceleration a (`ac`, g) takes L / v + v / a, or 2 sqrt(L / a)
    if v is never reached (Biagiotti & Melchiorri 2008, section 3.2); then the slide rests. Beside the rates: the time
    of a stroke (s), the speed that is reached (m/s), and a (m/s^2).
    """
    length, rest, lead = unit.uniform(0.22, 0.36), unit.uniform(0.12, 0.25), unit.uniform(0.004, 0.007)
    acceleration = GRAVITY * float(values.get("ac", 0.5))
    top = min(float(values.get("vel", 500)) / 1000, math.sqrt(acceleration * length))
    moving = length / top + top / acceleration
    motion = {"moving": moving, "top": top, "acceleration": acceleration}
    return {"stroke": 1 / (moving + rest), "screw": top / lead} | motion


def slider(take: Take) -> np.ndarray:
    """A slide that a screw moves to and fro: tones and friction noise that follow its speed, impacts at its ends.

    Faults: rubbing (a dent in the rail, at the same place of every stroke), loose part (it rattles after each start and
    stop), late stroke (some strokes begin late), dry rail (more friction, a high tone).
    """
    rate = slider_rates(stream(*take.unit), take.values)
    moving, rng = rate["moving"], take.rng
    count = int(take.samples / RATE * rate["stroke"]) + 3
    lasting = 1 / rate["stroke"] + rng.normal(0, 0.006, count)
    lasting += (rng.random(count) < 0.5) * take.has("late stroke") * rng.uniform(0.15, 0.5, count)
    starts = np.cumsum(lasting) - lasting[0] * (1 + rng.random())
    seconds = np.arange(take.samples) / RATE
    within = seconds - starts[np.maximum(np.searchsorted(starts, seconds, "right") - 1, 0)]
    ramp = rate["acceleration"] / rate["top"] * np.minimum(within, moving - within)
    speed = np.clip(ramp, 0, 1)
    dry = take.has("dry rail")
    whine = tones(
        take, turning(take, rate["screw"] * speed), {1: 0.2, 2: 0.3, 3: 0.25, 5: 0.3, 8: 0.3, 13: 0.25, 21: 0.2}
    )
    sound = np.fft.rfft(speed * whine)
    sound += noise(take, band(take.samples, 300, 3000), ratio(-1 + 4 * dry) * speed**0.7)
    if dry:
        pitch = turning(take, rng.uniform(1800, 3200) * (1 + 0.1 * speed))
        sound += np.fft.rfft(speed**4 * tones(take, pitch, {1: 0.4 * dry, 2: 0.2 * dry}))
    if rubs := take.has("rubbing"):
        grazing = np.exp(-0.5 * ((within / moving - rng.uniform(0.25, 0.75)) / 0.05) ** 2)
        sound += noise(take, band(take.samples, 1200, 4500), ratio(-2 + 10 * rubs) * grazing)
    sound *= ratio(14 * math.log10(rate["top"] / 0.5))
    thumps = np.concatenate([starts, starts + moving])
    push = ratio(-8) * (rate["acceleration"] / 4.9) ** 0.3 * rng.normal(1, 0.1, len(thumps))
    sound += impacts(take, thumps, push, ringing(take.samples, [180, 420, 950], 5))
    if loose := take.has("loose part"):
        times = thumps[:, None] + np.cumsum(rng.uniform(0.008, 0.03, (len(thumps), 6)), axis=1)
        force = ratio(-22 + 9 * loose) * 0.8 ** np.arange(6)
        sound += impacts(take, times, force, ringing(take.samples, rng.uniform(1500, 4500, 3), 12))
    return sound * body(take.unit, take.samples, 1.2)


PATTERNS = {
    "00": (0.80, (0.0,)),
    "01": (1.10, (0.0, 0.40)),
    "02": (0.60, (0.0,)),
    "03": (1.50, (0.0, 0.30, 0.75)),
    "04": (0.90, (0.0, 0.25)),
    "05": (1.30, (0.0, 0.55)),
}
"""A valve's patterns: the length of the cycle, and the times of the strokes in it, in seconds."""


def valve_rates(unit: Generator, values: dict[str, str]) -> dict[str, float]:
    """Strokes per second of each valve, by its attribute's key, and the time for which it stays open (s)."""
    rates = {"open": unit.uniform(0.09, 0.14)}
    for key in ("pat", "v1pat", "v2pat"):
        if key in values:
            cycle, strokes = PATTERNS[values[key]]
            rates[key] = len(strokes) / cycle
    return rates


def valve(take: Take) -> np.ndarray:
    """Solenoid valves that open and close in a pattern.

    The plunger strikes, the coil hums at twice the mains frequency of 50 Hz while it holds, the spring throws the
    plunger back, and air escapes. `pat` is the pattern of a single valve, `v1pat` and `v2pat` are those of two.

    Faults: missed stroke, late stroke (the plunger sticks), loose part (the plunger bounces), clogged flow (the air
    escapes slowly and with less treble, the strike is soft).
    """
    rates = valve_rates(stream(*take.unit), take.values)
    rng, seconds, clogged = take.rng, np.arange(take.samples) / RATE, take.has("clogged flow")
    sound = np.zeros(take.samples // 2 + 1, dtype=complex)
    for key in (key for key in rates if key != "open"):
        cycle, pattern = PATTERNS[take.values[key]]
        cycles = np.arange(-1, math.ceil(take.samples / RATE / cycle)) + rng.random()
        opens = np.add.outer(cycle * cycles, pattern).ravel()
        opens = opens + rng.normal(0, 0.003, len(opens))
        if missed := take.has("missed stroke"):
            opens = opens[rng.random(len(opens)) > 0.2 + 0.4 * missed]
        late = (rng.random(len(opens)) < 0.6) * take.has("late stroke")
        opens = opens + late * rng.uniform(0.04, 0.16, len(opens))
        closes = opens + rates["open"]
        pitch = 1.25 if key == "v2pat" else 1.0
        steel = ringing(take.samples, pitch * stream(*take.unit, "plunger").uniform(1500, 6500, 5), 12)
        seat = ringing(take.samples, pitch * stream(*take.unit, "seat").uniform(300, 1800, 3), 6)
        force = ratio(-5 * clogged + rng.normal(0, 0.8, len(opens)))
        sound += impacts(take, opens, force, ratio(-6) * steel + ratio(-7) * seat)
        sound += impacts(take, closes, 0.6 * force, ratio(-11) * steel + ratio(-6) * seat)
        if bounce := take.has("loose part"):
            times = np.add.outer(opens, np.arange(1, 4) * rng.uniform(0.018, 0.026))
            sound += impacts(take, times, np.multiply.outer(force, 0.7 * bounce * 0.7 ** np.arange(1, 4)), steel)
        escape = np.exp(-_since(closes, seconds) / (0.05 * (1 + 2 * clogged)))
        air = band(take.samples, 2500 * (1 - 0.5 * clogged), 6500 * (1 - 0.6 * clogged))
        sound += noise(take, air, ratio(-4) * escape)
        holding = _since(opens, seconds) < rates["open"]
        sound += np.fft.rfft(holding * tones(take, turning(take, 100.0, 0.0), {1: 0.3, 2: 0.15, 3: 0.1}))
    return sound * body(take.unit, take.samples, 0.7) * ratio(-4)


def _since(events: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """How long ago the last of the events was, at each of the times; infinite before the first."""
    events = np.append(-np.inf, np.sort(events))
    return seconds - events[np.searchsorted(events, seconds, "right") - 1]


def toy_car_rates(unit: Generator, values: dict[str, str]) -> dict[str, float]:
    """Motor, gear mesh, axle and commutation of a toy car: three slots under two poles commutate six times per turn.

    `spd` is the motor's voltage in tenths of a volt ("28V": 2.8 V); each `car` has another motor and crown wheel.
    """
    own = stream("car", values["car"])
    pinion, crown = int(unit.integers(8, 11)), int(unit.integers(34, 46)) + int(own.integers(0, 8))
    motor = unit.uniform(36, 46) * own.uniform(0.93, 1.07) * float(values["spd"].removesuffix("V")) / 10
    return {"motor": motor, "mesh": motor * pinion, "axle": motor * pinion / crown, "commutation": 6 * motor}


def toy_car(take: Take) -> np.ndarray:
    """A toy car on a stand: a brushed motor, its pinion on a crown wheel, wheels that turn freely.

    Faults: imbalance (a bent axle swings the mesh), chipped tooth (of the crown wheel: an impact per turn of the
    axle), rubbing (a ribbon wound on the axle), loose part (a wheel), weak battery (slower than its voltage says).
    """
    rate = toy_car_rates(stream(*take.unit), take.values)
    pinion, sag = round(rate["mesh"] / rate["motor"]), 1 - 0.06 * take.has("weak battery")
    shaft = turning(take, rate["motor"] * sag * take.rng.normal(1, 0.008), 0.004)
    axle = shaft * rate["axle"] / rate["motor"] + take.rng.random()
    bent = 0.1 + 0.5 * take.has("imbalance")
    mesh = tones(take, shaft, {pinion: 0.7, 2 * pinion: 0.4, 3 * pinion: 0.25, 4 * pinion: 0.15})
    motor = tones(take, shaft, {1: 0.3, 2: 0.2, 3: 0.15, 6: 0.5, 12: 0.35, 18: 0.2})
    sound = np.fft.rfft(swing(axle, bent) * mesh + motor + bent * np.cos(2 * math.pi * axle))
    sound += noise(take, band(take.samples, 250, 2500), ratio(-1) * swing(axle, bent) * (1 + 0.3 * mesh))
    if chipped := take.has("chipped tooth"):
        steel = ringing(take.samples, [1400, 2600, 4200], 8)
        sound += knocking(take, passes(axle), -13 + 9 * chipped, 0.15, steel)
    if rubs := take.has("rubbing"):
        sound += rubbing(take, axle, -13 + 10 * rubs)
    if loose := take.has("loose part"):
        sound += rattle(take, axle, -13 + 9 * loose)
    response = _another(body(take.unit, take.samples, 0.9), "car", take.values["car"])
    return sound * response * ratio(12 * math.log10(rate["motor"] * sag / 130))


def toy_train_rates(unit: Generator, values: dict[str, str]) -> dict[str, float]:
    """Rates of wheel, motor, gear mesh, rail joints and laps of a toy train, and its speed (m/s).

    `spd` is the step of the controller, 5 cm/s each; `car` is the locomotive.
    """
    wheel, rail, loop = unit.uniform(0.009, 0.012), unit.uniform(0.11, 0.18), unit.uniform(1.6, 2.4)
    gear, teeth = int(unit.integers(9, 14)), int(unit.integers(10, 15))
    speed = 0.05 * float(values["spd"]) * stream("train", values["car"]).uniform(0.94, 1.06)
    turn = speed / (math.pi * wheel)
    rolling = {"wheel": turn, "motor": turn * gear, "mesh": turn * teeth}
    return rolling | {"joints": speed / rail, "lap": speed / loop, "speed": speed}


def toy_train(take: Take) -> np.ndarray:
    """A toy train on a loop.

    Motor and gears, rolling noise, and four axles over every rail joint (wheel-rail impacts, Thompson 2009, chapter
    10); it is louder on the near side of the loop.

    Faults: flat wheel (an impact per turn of a wheel), loose part (two joints of the loop are loud), rubbing (the
    flange squeals in a part of the loop), imbalance (a bent axle), chipped tooth (of the motor's gear).
    """
    rate = toy_train_rates(stream(*take.unit), take.values)
    gear, teeth = round(rate["motor"] / rate["wheel"]), round(rate["mesh"] / rate["wheel"])
    pace = take.rng.normal(1, 0.008)
    wheel = turning(take, rate["wheel"] * pace, 0.004)
    place = wheel * rate["joints"] / rate["wheel"] + take.rng.random()
    lap = wheel * rate["lap"] / rate["wheel"] + take.rng.random()
    axles = np.array([0.0, 0.022, 0.075, 0.097]) / (rate["speed"] * pace)
    bent, near_side = take.has("imbalance"), swing(lap, 0.35)
    drive = {teeth: 0.3, gear: 0.35, 2 * gear: 0.25, 3 * gear: 0.15, 6 * gear: 0.35, 12 * gear: 0.2, gear * teeth: 0.3}
    running = swing(wheel, 0.1 + 0.7 * bent) * tones(take, wheel, drive)
    running += (0.1 + 0.4 * bent) * np.cos(2 * math.pi * wheel)
    sound = np.fft.rfft(near_side * running)
    sound += noise(take, band(take.samples, 400, 3000), ratio(-1) * near_side * swing(wheel, 0.03 + 0.2 * bent))
    rails = ringing(take.samples, stream(*take.unit, "rail").uniform(600, 3500, 4), 7)
    joints = np.add.outer(passes(place), axles)
    sound += impacts(take, joints, ratio(-13) * take.rng.normal(1, 0.15, joints.shape), rails)
    if loose := take.has("loose part"):
        knocks = np.add.outer(passes(2 * lap), axles)
        sound += impacts(take, knocks, ratio(-10 + 9 * loose), ringing(take.samples, [350, 1200, 2600], 6))
    if flat := take.has("flat wheel"):
        sound += knocking(take, passes(wheel), -9 + 8 * flat, 0.15, rails)
    if chipped := take.has("chipped tooth"):
        steel = ringing(take.samples, [2200, 3900, 5200], 8)
        sound += knocking(take, passes(wheel * gear), -13 + 9 * chipped, 0.3, steel)
    if rubs := take.has("rubbing"):
        squeal = tones(take, turning(take, take.rng.uniform(1500, 3000), 0.01), {1: 0.6, 2: 0.4, 3: 0.2})
        sound += np.fft.rfft(ratio(-9 + 9 * rubs) * near(lap + take.rng.random(), 0.15) * squeal)
    response = _another(body(take.unit, take.samples, 0.8), "train", take.values["car"])
    return sound * response * ratio(8 * math.log10(rate["speed"] / 0.4))


def _another(response: np.ndarray, make: str, car: str) -> np.ndarray:
    """The response of another housing of the same make: every mode of this one shifted by a few per cent."""
    points = np.arange(len(response))
    return np.interp(points * stream(make, car, "body").uniform(0.93, 1.07), points, np.abs(response))


@dataclass(frozen=True)
class Kind:
    """A kind of machine."""

    sound: Callable[[Take], np.ndarray]
    """The spectrum (samples // 2 + 1,) of a clip's sound."""
    rates: Callable[[Generator, dict[str, str]], dict[str, float]]
    """The rates that a unit (`stream(*take.unit)`) has under a clip's attributes."""
    faults: tuple[str, ...]
    """What can be wrong with it; a faulty clip has one of these, all with equal probability."""


KINDS = {
    "ToyCar": Kind(toy_car, toy_car_rates, ("imbalance", "chipped tooth", "rubbing", "loose part", "weak battery")),
    "ToyTrain": Kind(toy_train, toy_train_rates, ("flat wheel", "loose part", "rubbing", "imbalance", "chipped tooth")),
    "bearing": Kind(bearing, bearing_rates, ("outer", "inner", "ball", "imbalance", "dry")),
    "fan": Kind(fan, fan_rates, ("imbalance", "clogged flow", "rubbing", "loose part")),
    "gearbox": Kind(gearbox, gearbox_rates, ("imbalance", "chipped tooth", "wear", "loose part")),
    "slider": Kind(slider, slider_rates, ("rubbing", "loose part", "late stroke", "dry rail")),
    "valve": Kind(valve, valve_rates, ("missed stroke", "late stroke", "loose part", "clogged flow")),
}
