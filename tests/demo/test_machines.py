"""The machines of the demo: their rates by hand, and that these and the faults are in the sound."""

import math

import numpy as np
import pytest
import scipy.signal

from asd.demo.acoustics import RATE, Take, impacts, stream
from asd.demo.machines import KINDS, bearing_rates, toy_car_rates
from asd.demo.synthesis import SHIFTS


def machine_alone(machine, values, fault="", severity=1.0, seconds=8.0, seed=0):
    """The machine without its background, (samples,), and the rates that it declares."""
    unit = (1, machine, "00")
    take = Take(stream("test", seed), unit, values, int(seconds * RATE), fault, severity)
    return np.fft.irfft(KINDS[machine].sound(take), take.samples), KINDS[machine].rates(stream(*unit), values)


def prominence(sound, rate, tolerance=0.015):
    """By how many dB the strongest line near `rate` stands above the median of its surroundings."""
    f, power = scipy.signal.welch(sound, RATE, nperseg=min(len(sound), 2 * RATE))
    line = power[np.abs(f - rate) <= max(tolerance * rate, 1)].max()
    return 10 * math.log10(line / np.median(power[np.abs(f - rate) <= max(0.3 * rate, 20)]))


@pytest.mark.parametrize(
    ("machine", "values", "lines"),
    [
        ("fan", {"vel": "1200"}, ["blade_pass"]),
        ("fan", {"vel": "1500"}, ["blade_pass"]),
        ("gearbox", {"volt": "1.0"}, ["mesh"]),
        ("gearbox", {"volt": "3.0"}, ["mesh"]),
        ("gearbox", {"wt": "200"}, ["mesh"]),
        ("gearbox", {"id": "05"}, ["mesh"]),
        ("bearing", {"vel": "18"}, ["shaft"]),
        ("ToyCar", {"car": "A1", "spd": "28V"}, ["mesh", "commutation", "motor"]),
        ("ToyCar", {"car": "C2", "spd": "40V"}, ["mesh", "commutation", "motor"]),
        ("ToyTrain", {"car": "A1", "spd": "6"}, ["motor", "mesh"]),
        ("ToyTrain", {"car": "A1", "spd": "10"}, ["motor", "mesh"]),
    ],
)
def test_lines_stand_at_the_declared_rates(machine, values, lines):
    sound, rates = machine_alone(machine, values)
    for line in lines:
        assert prominence(sound, rates[line]) > 10, line


def test_rates_follow_speed_and_voltage():
    unit = (1, "test", "00")
    rates = lambda machine, **values: KINDS[machine].rates(stream(*unit), values)  # noqa: E731
    assert rates("fan", vel="1500")["blade_pass"] == pytest.approx(1.25 * rates("fan", vel="1200")["blade_pass"])
    assert rates("fan", vel="1200")["shaft"] == 20
    assert rates("gearbox", volt="3.0")["mesh"] == pytest.approx(3 * rates("gearbox", volt="1.0")["mesh"])
    assert rates("gearbox", wt="200")["mesh"] < rates("gearbox", wt="0")["mesh"]
    assert rates("ToyCar", car="A1", spd="40V")["mesh"] == pytest.approx(
        40 / 28 * rates("ToyCar", car="A1", spd="28V")["mesh"]
    )
    assert rates("ToyTrain", car="A1", spd="9")["joints"] == pytest.approx(
        1.5 * rates("ToyTrain", car="A1", spd="6")["joints"]
    )
    assert toy_car_rates(stream(1), {"car": "A1", "spd": "28V"}) != toy_car_rates(
        stream(1), {"car": "A2", "spd": "28V"}
    )


def test_a_wheel_out_of_true_puts_sidebands_beside_the_gear_mesh():
    """Amplitude modulation of depth m puts lines of m / 2 one turn of the wheel away on either side."""
    sidebands = {}
    for fault in ("", "imbalance"):
        sound, rates = machine_alone("gearbox", {"volt": "3.0"}, fault, seconds=32)
        f, power = scipy.signal.welch(sound, RATE, nperseg=2 * RATE)
        around = lambda rate, width=1.0: power[np.abs(f - rate) <= width].sum()  # noqa: B023, E731
        mesh = f[np.argmax(np.where(np.abs(f - rates["mesh"]) < 5, power, 0))]
        sides = (around(mesh - rates["output"]), around(mesh + rates["output"]))
        sidebands[fault] = 10 * np.log10(np.array(sides) / around(mesh))
    assert sidebands["imbalance"] == pytest.approx(20 * math.log10(0.8 / 2), abs=4)
    assert (sidebands["imbalance"] > sidebands[""] + 10).all()


def test_bearing_rates_are_those_of_a_known_bearing():
    """The 6205-2RS of the Case Western Reserve test rig: nine balls of 7.94 mm on 39.04 mm, orders as published."""

    class Geometry:
        sizes = iter([7.94 / 39.04, 0.0])

        def integers(self, *_):
            return 9

        def uniform(self, *_):
            return next(self.sizes)

    rates = bearing_rates(Geometry(), {"vel": "1"})
    assert rates["outer"] == pytest.approx(3.5848, rel=1e-3)
    assert rates["inner"] == pytest.approx(5.4152, rel=1e-3)
    assert rates["cage"] == pytest.approx(0.39828, rel=1e-3)
    assert rates["ball"] == pytest.approx(4.7135, rel=1e-3)


@pytest.mark.parametrize("flaw", ["outer", "inner", "ball"])
def test_envelope_of_a_flawed_bearing_has_a_line_at_the_defect_rate(flaw):
    def line(fault):
        sound, rates = machine_alone("bearing", {"vel": "14"}, fault)
        high = scipy.signal.sosfilt(scipy.signal.butter(4, (2000, 6000), "bandpass", fs=RATE, output="sos"), sound)
        envelope = np.abs(scipy.signal.hilbert(high)) ** 2
        return prominence(envelope - envelope.mean(), rates[flaw])

    assert line(flaw) > 15
    assert line("") < 8


@pytest.mark.parametrize(
    ("machine", "values", "fault", "rate"),
    [
        ("gearbox", {"volt": "2.0"}, "chipped tooth", "output"),
        ("ToyCar", {"car": "A1", "spd": "28V"}, "chipped tooth", "axle"),
        ("ToyTrain", {"car": "A1", "spd": "8"}, "chipped tooth", "motor"),
        ("ToyTrain", {"car": "A1", "spd": "8"}, "flat wheel", "wheel"),
        ("ToyCar", {"car": "A1", "spd": "28V"}, "rubbing", "axle"),
        ("fan", {"vel": "1200"}, "rubbing", "shaft"),
    ],
)
def test_what_a_fault_adds_recurs_at_its_rate(machine, values, fault, rate):
    """These draw from the generator after all else, so that faulty less whole is what the fault adds."""
    whole, rates = machine_alone(machine, values)
    faulty, _ = machine_alone(machine, values, fault)
    envelope = np.abs(scipy.signal.hilbert(faulty - whole)) ** 2
    assert prominence(envelope - envelope.mean(), rates[rate]) > 15


@pytest.mark.parametrize(
    ("machine", "values", "rate"), [("fan", {"vel": "1200"}, "shaft"), ("bearing", {"vel": "18"}, "shaft")]
)
def test_imbalance_raises_the_line_of_the_shaft(machine, values, rate):
    lines = {}
    for fault in ("", "imbalance"):
        sound, rates = machine_alone(machine, values, fault)
        f, power = scipy.signal.welch(sound, RATE, nperseg=2 * RATE)
        lines[fault] = 10 * math.log10(power[np.abs(f - rates[rate]) < 1].max())
    assert lines["imbalance"] > lines[""] + 6


def onsets(sound):
    """Times (s) of strikes: peaks of the envelope above 2 kHz."""
    high = scipy.signal.sosfiltfilt(scipy.signal.butter(4, 2000, "highpass", fs=RATE, output="sos"), sound)
    envelope = scipy.signal.oaconvolve(high**2, np.ones(80) / 80, "same")
    peaks, _ = scipy.signal.find_peaks(envelope, height=0.05 * np.percentile(envelope, 99.9), distance=800)
    return peaks / RATE


@pytest.mark.parametrize(("pattern", "strokes"), [("00", 1 / 0.8), ("01", 2 / 1.1), ("02", 1 / 0.6)])
def test_a_valve_strikes_twice_a_stroke(pattern, strokes):
    sound, rates = machine_alone("valve", {"pat": pattern}, seconds=20)
    assert rates["pat"] == pytest.approx(strokes)
    assert len(onsets(sound)) == pytest.approx(20 * 2 * strokes, abs=3)


def test_a_sticking_valve_misses_strokes_or_is_late():
    times = onsets(machine_alone("valve", {"pat": "00"}, seconds=20)[0])
    missed = onsets(machine_alone("valve", {"pat": "00"}, "missed stroke", seconds=20)[0])
    late = onsets(machine_alone("valve", {"pat": "00"}, "late stroke", seconds=20)[0])
    assert len(missed) < 0.7 * len(times)
    assert len(late) == pytest.approx(len(times), abs=2)
    assert np.std(np.diff(late[::2])) > 3 * np.std(np.diff(times[::2]))


@pytest.mark.parametrize("values", [{"vel": "500"}, {"vel": "1100"}, {"ac": "0.05"}])
def test_a_slider_repeats_at_its_stroke_rate(values):
    sound, rates = machine_alone("slider", values, seconds=20)
    envelope = scipy.signal.decimate(np.sqrt(scipy.signal.oaconvolve(sound**2, np.ones(400) / 400, "same")), 10)
    envelope = scipy.signal.decimate(envelope, 10) - envelope.mean()
    correlation = scipy.signal.correlate(envelope, envelope)[len(envelope) - 1 :]
    period = round(RATE / 100 / rates["stroke"])
    best = period // 2 + np.argmax(correlation[period // 2 : 3 * period // 2])
    assert best == pytest.approx(period, rel=0.03)
    assert correlation[best] > 0.4 * correlation[0]


def test_a_slider_covers_its_stroke():
    """The profile's own integral, whatever its shape: top speed times (time under way - time to reach it)."""
    lengths = []
    for values in ({"vel": "100"}, {"vel": "700"}, {"ac": "0.01"}, {"ac": "0.14"}):
        rates = KINDS["slider"].rates(stream(1), values)
        t = np.linspace(0, rates["moving"], 100001)
        speed = np.minimum(rates["acceleration"] * np.minimum(t, rates["moving"] - t), rates["top"])
        lengths.append(np.trapezoid(speed, t))
    assert lengths == pytest.approx([lengths[0]] * 4, rel=1e-3)
    assert 0.2 < lengths[0] < 0.4


def test_a_train_knocks_four_axles_over_every_joint():
    values = {"car": "A1", "spd": "6"}
    times = []

    def recorded(take, at, strength, filtered, real=impacts):
        times.append(np.asarray(at))
        return real(take, at, strength, filtered)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asd.demo.machines.impacts", recorded)
        _, rates = machine_alone("ToyTrain", values)
    [joints] = times
    assert joints.shape[1] == 4
    assert np.diff(joints[:, 0]) == pytest.approx(1 / rates["joints"], rel=0.05)
    assert np.diff(joints[0]) * rates["speed"] == pytest.approx([0.022, 0.053, 0.022], rel=0.05)


@pytest.mark.parametrize("machine", KINDS)
def test_every_fault_changes_the_sound_and_no_fault_is_enormous(machine):
    values = SHIFTS[machine][0].source[0]
    whole = [machine_alone(machine, values, seconds=4, seed=seed)[0] for seed in range(3)]
    levels = [10 * math.log10(np.mean(sound**2)) for sound in whole]
    for fault in KINDS[machine].faults:
        mild, _ = machine_alone(machine, values, fault, 1e-9, seconds=4)
        severe, _ = machine_alone(machine, values, fault, 1.0, seconds=4)
        assert not np.array_equal(whole[0], severe)
        assert np.isfinite(severe).all()
        assert abs(10 * math.log10(np.mean(severe**2)) - np.mean(levels)) < 6
        assert abs(10 * math.log10(np.mean(mild**2)) - np.mean(levels)) < 3
