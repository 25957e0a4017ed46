"""The demo corpus: layout, determinism and physics, each against a second opinion."""

import csv
import importlib.util
import math
import re
import wave
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from asd.demo.acoustics import RATE, Take, band, impacts, noise, passes, pickup, ratio, ringing, stream, tones, turning
from asd.demo.machines import KINDS, bearing_rates, toy_car_rates
from asd.demo.synthesis import SHIFTS, Clip, plan, record, write_machine
from asd.errors import InputError
from asd.settings import Demo

MACHINES = ["ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"]
TINY = Demo(sections=3, additional_sections=1, train_source=3, train_target=2, test=2, seconds=0.5)
DEVELOPMENT = re.compile(
    r"section_(\d\d)_(source|target)_(train_normal|test_normal|test_anomaly)_(\d{4})((?:_[a-z0-9-]+?_[A-Za-z0-9.-]+)+)\.wav"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for machine in MACHINES:
        write_machine(folder, machine, TINY)
    return folder


# --- layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_names_and_counts_are_those_of_the_published_set(corpus, machine):
    train = sorted(path.name for path in (corpus / machine / "train").iterdir())
    test = sorted(path.name for path in (corpus / machine / "test").iterdir())
    assert len(train) == 4 * (3 + 2)
    assert len(test) == 3 * 8 + 8
    assert [name for name in test if name.startswith("section_03")] == [f"section_03_{i:04d}.wav" for i in range(8)]
    found = {}
    for name in train + [name for name in test if not name.startswith("section_03")]:
        section, domain, kind, index, _ = DEVELOPMENT.fullmatch(name).groups()
        found.setdefault((section, domain, kind), []).append(int(index))
    for section in ("00", "01", "02", "03"):
        assert sorted(found[section, "source", "train_normal"]) == [0, 1, 2]
        assert sorted(found[section, "target", "train_normal"]) == [0, 1]
    for section in ("00", "01", "02"):
        for domain in ("source", "target"):
            assert sorted(found[section, domain, "test_normal"]) == [0, 1]
            assert sorted(found[section, domain, "test_anomaly"]) == [0, 1]
    assert len(found) == 4 * 2 + 3 * 4


@pytest.mark.parametrize("machine", MACHINES)
def test_recordings_are_16_khz_mono_16_bit(corpus, machine):
    for path in (corpus / machine).glob("*/*.wav"):
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (
                16000,
                1,
                2,
                8000,
            )


@pytest.mark.parametrize("machine", MACHINES)
def test_attribute_csvs_hold_the_shifted_parameters_of_every_labelled_clip(corpus, machine):
    for section in ("00", "01", "02", "03"):
        rows = list(csv.reader((corpus / machine / f"attributes_{section}.csv").open(newline="")))
        assert rows[0] in (["file_name", "d1p", "d1v"], ["file_name", "d1p", "d1v", "d2p", "d2v"])
        labelled = {f"{machine}/{path.parent.name}/{path.name}"
                    for path in (corpus / machine).glob(f"*/section_{section}_*_*_*.wav")}  # fmt: skip
        assert {row[0] for row in rows[1:]} == labelled
        assert len(rows) - 1 == len(labelled)
        shifted = {"source": set(), "target": set()}
        for file, *pairs in rows[1:]:
            assert len(pairs) in (2, 4)
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                assert f"_{'spd' if key == 'speed' else key}_{value}" in file
            shifted["source" if "_source_" in file else "target"].add(tuple(pairs))
        assert len(shifted["source"]) > 1 or machine.startswith("Toy")  # a toy's microphone has one value
        assert not shifted["source"] & shifted["target"]


def test_attributes_of_the_real_development_set():
    keys = {
        machine: [shift.source[0].keys() | shift.target[0].keys() for shift in SHIFTS[machine]] for machine in MACHINES
    }
    assert keys["ToyCar"] == keys["ToyTrain"] == [{"car", "spd", "mic", "noise"}] * 3
    assert keys["bearing"] == [{"vel"}, {"vel", "loc"}, {"vel", "f-n"}]
    assert keys["gearbox"] == [{"volt"}, {"wt"}, {"id"}]
    assert keys["slider"] == [{"vel"}, {"ac"}, {"f-n"}]
    assert keys["valve"] == [{"pat"}, {"pat", "panel"}, {"v1pat", "v2pat"}]
    assert keys["fan"] == [{"m-n"}, {"f-n"}, {"vel", "n-lv"}]


@pytest.mark.parametrize("machine", ["ToyCar", "bearing"])
def test_ground_truth_of_the_evaluation_clips(corpus, machine):
    for kind in ("data", "domain"):
        path = corpus / f"ground_truth_{kind}" / f"ground_truth_{machine}_section_03_test.csv"
        assert b"\r" not in path.read_bytes()
        rows = list(csv.reader(path.open(newline="")))
        assert [row[0] for row in rows] == [f"section_03_{i:04d}.wav" for i in range(8)]
        assert sorted(row[1] for row in rows) == ["0"] * 4 + ["1"] * 4
        assert not list(path.parent.glob("*section_00*"))


def test_ground_truth_is_of_the_clips_that_were_written(tmp_path):
    hidden = Demo(sections=1, additional_sections=1, train_source=1, train_target=1, test=2, seconds=0.5)
    write_machine(tmp_path, "fan", hidden)
    label = dict(csv.reader((tmp_path / "ground_truth_data/ground_truth_fan_section_01_test.csv").open()))
    domain = dict(csv.reader((tmp_path / "ground_truth_domain/ground_truth_fan_section_01_test.csv").open()))
    named = plan("fan", hidden.model_copy(update={"sections": 2, "additional_sections": 0}))
    for clip in named:
        if clip.section == "01" and clip.split == "test":
            data = record(clip, hidden.seed, 0.5).tobytes()
            [name] = [p.name for p in (tmp_path / "fan/test").glob("section_01_*.wav") if p.read_bytes().endswith(data)]
            assert label[name] == str(int(clip.label == "anomaly"))
            assert domain[name] == str(int(clip.domain == "target"))


# --- determinism --------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_bytes_do_not_depend_on_processes_or_on_what_was_there(corpus, tmp_path):
    write_machine(tmp_path, "valve", TINY, jobs=2)
    first = contents(tmp_path)
    assert first == {name: data for name, data in contents(corpus).items() if "valve" in name}
    victim = next((tmp_path / "valve" / "test").iterdir())
    victim.write_bytes(b"broken")
    write_machine(tmp_path, "valve", TINY)
    assert contents(tmp_path) == first


def test_a_clip_does_not_depend_on_the_others(corpus, tmp_path):
    write_machine(tmp_path, "fan", Demo(sections=2, train_source=1, train_target=1, test=1, seconds=0.5))
    few, many = contents(tmp_path), contents(corpus)
    recordings = [name for name in few if name.endswith(".wav")]
    assert len(recordings) == 12
    assert all(few[name] == many[name] for name in recordings)


def test_another_seed_is_another_corpus():
    clips = [clip for clip in plan("gearbox", TINY) if clip.section == "00"]
    sounds = [record(clip, seed, 0.5).tobytes() for seed in (1, 2) for clip in clips]
    assert len(set(sounds)) == 2 * len(clips)


# --- bad input ----------------------------------------------------------------------------------------------


def test_an_unknown_machine_is_refused_with_the_seven_that_there_are(tmp_path):
    with pytest.raises(InputError) as error:
        write_machine(tmp_path, "pump", TINY)
    assert all(name in str(error.value) for name in [*MACHINES, "'pump'"])
    assert not list(tmp_path.iterdir())


def test_more_sections_than_two_digits_are_refused(tmp_path):
    with pytest.raises(InputError, match="more than 100"):
        write_machine(tmp_path, "fan", Demo(sections=60, additional_sections=41))


def test_recordings_of_another_corpus_are_not_mixed_in(tmp_path):
    write_machine(tmp_path, "fan", Demo(sections=1, train_source=1, train_target=0, test=2, seconds=0.5))
    with pytest.raises(InputError, match=r"found 4 recordings .* such as section_00_\w+_0001"):
        write_machine(tmp_path, "fan", Demo(sections=1, train_source=1, train_target=0, test=1, seconds=0.5))


def test_an_interrupted_recording_has_no_final_name(tmp_path, monkeypatch):
    def interrupted(path, *_, **__):
        Path(path).write_bytes(b"RIFF")
        raise KeyboardInterrupt

    monkeypatch.setattr("soundfile.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_machine(tmp_path, "fan", TINY)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- sound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_recordings_are_neither_silent_nor_clipped(machine):
    for clip in plan(machine, Demo(sections=3, train_source=2, train_target=2, test=2)):
        sound = record(clip, 2022, 1.5) / 32768
        assert -50 < 10 * math.log10(np.mean(sound**2)) < -25
        assert np.abs(sound).max() < 0.9
        assert abs(sound.mean()) < 0.01


def test_sections_are_different_units():
    spectra = []
    for section in ("00", "03"):
        sounds = [
            record(Clip("slider", section, "train", "source", "normal", i, {"vel": "500"}), 1, 2.0) for i in range(3)
        ]
        spectra.append([10 * np.log10(scipy.signal.welch(s / 32768, RATE, nperseg=1024)[1]) for s in sounds])
    within = max(np.abs(a - b).mean() for unit in spectra for a in unit for b in unit)
    between = min(np.abs(a - b).mean() for a in spectra[0] for b in spectra[1])
    assert between > within


def test_a_louder_hall_is_louder():
    def level(name):
        clips = [Clip("fan", "02", "train", "source", "normal", i, {"vel": "1200", "n-lv": name}) for i in range(6)]
        return np.mean([10 * np.log10(np.mean((record(clip, 1, 1.0) / 32768) ** 2)) for clip in clips])

    levels = [level(name) for name in ("L1", "L2", "L3", "L4")]
    assert levels == sorted(levels)
    assert levels[3] - levels[0] > 2


# --- physics ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("machine", MACHINES)
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


# --- excitations --------------------------------------------------------------------------------------------


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


# --- the references -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def references():
    path = Path(__file__).parent / "references.py"
    spec = importlib.util.spec_from_file_location("references", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_references_by_hand(references, tmp_path):
    """Levels in dB: training -20 -20; source normals -20, anomalies -15 and -25 and -20.5, target normals -17."""
    import soundfile

    clips = {"train": [("source_train_normal", -20), ("source_train_normal", -20)]}
    clips["test"] = [("source_test_normal", -20), ("target_test_normal", -17), ("source_test_anomaly", -15),
                     ("target_test_anomaly", -25), ("target_test_anomaly", -20.5)]  # fmt: skip
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    for split, rows in clips.items():
        (tmp_path / "fan" / split).mkdir(parents=True)
        for i, (kind, decibels) in enumerate(rows):
            path = tmp_path / "fan" / split / f"section_00_{kind}_{i:04d}_m-n_W.wav"
            soundfile.write(path, tone * 10 ** (decibels / 20), RATE)
    found = references.judge(tmp_path / "fan")
    for reference in ("level", "nearest"):
        assert found[reference] == pytest.approx({"source": 1.0, "target": 2 / 3, "all": 5 / 6})


def test_references_refuse_a_folder_without_a_corpus(references, tmp_path):
    (tmp_path / "fan" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="found no section"):
        references.judge(tmp_path / "fan")
