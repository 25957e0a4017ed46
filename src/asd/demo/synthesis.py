"""The embedded demo corpus: synthesised recordings, laid out and named like the DCASE 2022 Task 2 data set.

    <folder>/<machine>/train/section_00_source_train_normal_0000_vel_10.wav
    <folder>/<machine>/test/section_00_target_test_anomaly_0003_vel_26.wav      development sections
    <folder>/<machine>/test/section_03_0017.wav                                 additional sections: no label
    <folder>/<machine>/attributes_00.csv                                        the parameters that the domain shifts
    <folder>/ground_truth_data/ground_truth_<machine>_section_03_test.csv       section_03_0017.wav,1 (1: anomalous)
    <folder>/ground_truth_domain/ground_truth_<machine>_section_03_test.csv     section_03_0017.wav,0 (1: target)

Attributes, their values and what each section shifts are those of the real development sections; sections beyond
the third shift the same attributes, in another unit. Every clip has a random generator of its own, which depends on the
seed and the clip's fields only, so its bytes do not depend on the other clips, the order or the number of processes.
"""

import csv
import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asd.demo.acoustics import RATE, Take, background, pickup, ratio, stream
from asd.demo.machines import KINDS
from asd.errors import InputError
from asd.files import written
from asd.settings import Demo

LEAD = RATE // 4
"""Samples that are made before each clip and cut off, so that a resonance may have begun before the clip, and what the
circular convolution carries over from the end is removed."""

FULL_SCALE = -42.0
"""Level of a machine in normal operation in dB of a full-scale square wave, near the real recordings' -30 to -46."""


# --- what shifts between the domains ------------------------------------------------------------------------


def cross(**values: str) -> list[dict[str, str]]:
    """Every combination of the attributes' values, in the order of the keys; `_` in a key stands for `-`."""
    names = [key.replace("_", "-") for key in values]
    return [dict(zip(names, each, strict=True)) for each in itertools.product(*(v.split() for v in values.values()))]


@dataclass(frozen=True)
class Shift:
    """The attributes of a section's clips."""

    keys: tuple[str, ...]
    """The domain-shift parameters, the columns of the attribute csv; the other attributes are in the names only."""
    source: list[dict[str, str]]
    target: list[dict[str, str]]


def _toy(low: str, high: str, between: str) -> tuple[Shift, Shift, Shift]:
    """A toy's three sections: other cars, other speeds, another microphone. In the target the background is louder."""
    return (
        Shift(
            ("car", "noise"),
            cross(car="A1 A2 E1 E2", spd=low, mic="1", noise="1"),
            cross(car="C1 C2", spd=low, mic="1", noise="2"),
        ),
        Shift(
            ("spd", "noise"),
            cross(car="A1 A2", spd=high, mic="1", noise="1"),
            cross(car="A1 A2", spd=between, mic="1", noise="2"),
        ),
        Shift(
            ("mic", "noise"),
            cross(car="A1 A2", spd=high, mic="1", noise="1"),
            cross(car="A1 A2", spd=high, mic="2", noise="2"),
        ),
    )


SHIFTS = {
    "ToyCar": _toy("28V 34V", "28V 40V", "31V 37V"),
    "ToyTrain": _toy("6 8", "6 10", "7 9"),
    "bearing": (
        Shift(("vel",), cross(vel="6 10 14 18 22"), cross(vel="2 4 8 12 16 20 24 26")),
        Shift(("loc",), cross(vel="4 12", loc="A B C D"), cross(vel="4 12", loc="E F G H")),
        Shift(("f-n",), cross(vel="6 14", f_n="A B"), cross(vel="6 14", f_n="C")),
    ),
    "fan": (
        Shift(("m-n",), cross(m_n="W X"), cross(m_n="Y Z")),
        Shift(("f-n",), cross(f_n="A B"), cross(f_n="C")),
        Shift(("n-lv",), cross(vel="1200 1500", n_lv="L1 L2"), cross(vel="1200 1500", n_lv="L3 L4")),
    ),
    "gearbox": (
        Shift(("volt",), cross(volt="1.0 1.5 2.0 2.5 3.0"), cross(volt="0.6 0.8 1.3 1.8 2.3 2.8 3.3 3.5")),
        Shift(("wt",), cross(wt="0 50 100 150 200"), cross(wt="30 80 130 180 230 250")),
        Shift(("id",), cross(id="05 08 13"), cross(id="00 02 11")),
    ),
    "slider": (
        Shift(("vel",), cross(vel="300 500 700 900 1100"), cross(vel="100 200 400 600 800 1000 1200 1300")),
        Shift(("ac",), cross(ac="0.03 0.05 0.07 0.09 0.11"), cross(ac="0.01 0.02 0.04 0.06 0.08 0.10 0.12 0.14")),
        Shift(("f-n",), cross(f_n="A B"), cross(f_n="C")),
    ),
    "valve": (
        Shift(("pat",), cross(pat="00 01"), cross(pat="02 03")),
        Shift(("panel",), cross(pat="04 05", panel="open bs-c"), cross(pat="04 05", panel="b-c s-c")),
        Shift(
            ("v1pat", "v2pat"),
            [{"v1pat": "04"}, {"v1pat": "05"}, {"v2pat": "05"}],
            [{"v1pat": "04", "v2pat": "05"}, {"v1pat": "05", "v2pat": "05"}],
        ),
    ),
}
"""What each section shifts, by kind. The real fan's `n-lv` section has one speed; this one has two, named `vel`."""

SPELLING = {"spd": "speed"}
"""Keys that the attribute csv spells differently from the file name, as the real ones do."""

BACKGROUND = {
    "ToyCar": -2.0,
    "ToyTrain": -3.0,
    "bearing": -2.0,
    "fan": 0.0,
    "gearbox": -3.0,
    "slider": -3.0,
    "valve": -5.0,
}
"""Level of the background in dB relative to the machine in normal operation. It and the strengths of the faults are
set so that an energy threshold or nearest neighbours on the mean log-mel (tests/demo/references.py) have an AUC between
0.55 and 0.90; never by the results of the networks."""

NOISE = {"noise": {"1": 0.0, "2": 3.0}, "n-lv": {"L1": -3.0, "L2": 0.0, "L3": 3.0, "L4": 6.0}}
"""What an attribute adds to the background's level, in dB."""


# --- a clip -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """One recording; its fields seed its generator."""

    machine: str
    section: str
    split: str
    domain: str
    label: str
    index: int
    values: dict[str, str]
    number: int | None = None
    """The number of a test clip of an additional section, whose name says nothing else."""
    told: bool = True
    """Whether the values are in its name and in the attribute csv."""

    @property
    def name(self) -> str:
        """The base name of the recording, as in the published data sets."""
        if self.number is not None:
            return f"section_{self.section}_{self.number:04d}.wav"
        attributes = "".join(f"_{key}_{value}" for key, value in self.values.items()) if self.told else "_noAttribute"
        return f"section_{self.section}_{self.domain}_{self.split}_{self.label}_{self.index:04d}{attributes}.wav"


def record(clip: Clip, seed: int, seconds: float) -> np.ndarray:
    """Synthesise a clip: the machine as its microphone records it, and the background; (samples,) int16.

    A fault of random kind and severity is added if the label is anomaly; nothing else depends on the label.

    Args:
        clip: what to synthesise.
        seed: of the corpus.
        seconds: length.
    """
    from scipy.fft import next_fast_len

    values, length = clip.values, round(seconds * RATE)
    rng = stream(seed, clip.machine, clip.section, clip.split, clip.domain, clip.label, clip.index)
    fault, severity = str(rng.choice(KINDS[clip.machine].faults)), rng.uniform(0.2, 1.0)
    if clip.label == "normal":
        fault, severity = "", 0.0
    unit = (seed, clip.machine, clip.section)
    take = Take(rng, unit, values, next_fast_len(length + LEAD, real=True), fault, severity)

    loudness = BACKGROUND[clip.machine] + rng.normal(0, 1.5) + sum(NOISE[k][v] for k, v in values.items() if k in NOISE)
    corner = next((f"{key}_{values[key]}" for key in ("f-n", "m-n", "noise") if key in values), "quiet")
    places = [f"{key}_{values[key]}" for key in ("mic", "loc", "panel") if key in values]
    spectrum = KINDS[clip.machine].sound(take) * ratio(rng.normal(0, 0.5))
    for place in places:
        spectrum *= pickup(take.samples, place)
    neighbour = 0.0 if "m-n" in values else -6.0
    spectrum += ratio(loudness) * background(take, corner, neighbour)
    sound = ratio(FULL_SCALE) * np.fft.irfft(spectrum, take.samples)[-length:]
    return np.rint(32767 * np.clip(sound, -1, 1)).astype(np.int16)


# --- the corpus ---------------------------------------------------------------------------------------------


def plan(machine: str, settings: Demo) -> list[Clip]:
    """The clips of a machine, section by section; the evaluation test clips in the random order of their numbers.

    Raises:
        InputError: there is no such machine, or there are more sections than two digits can number.
    """
    if machine not in KINDS:
        raise InputError(f"machines: found {machine!r}, the demo corpus has {' '.join(KINDS)}; name one of these")
    if settings.sections + settings.additional_sections > 100:
        raise InputError("dataset.demo: sections and additional_sections are more than 100 together; lower them")
    clips, told = [], machine not in settings.without_attributes
    for number in range(settings.sections + settings.additional_sections):
        section, order = f"{number:02d}", stream(settings.seed, machine, number, "order")
        turns = {"source": order.permutation(_shift(machine, section).source)}
        turns["target"] = order.permutation(_shift(machine, section).target)

        def some(split: str, domain: str, label: str, count: int, section=section, turns=turns) -> list[Clip]:
            values = turns[domain]
            kinds = (values[i % len(values)] for i in range(count))
            return [Clip(machine, section, split, domain, label, i, kind, told=told) for i, kind in enumerate(kinds)]

        clips += some("train", "source", "normal", settings.train_source)
        clips += some("train", "target", "normal", settings.train_target)
        kinds = itertools.product(("source", "target"), ("normal", "anomaly"))
        test = [clip for domain, label in kinds for clip in some("test", domain, label, settings.test)]
        if number >= settings.sections:
            test = [replace(test[place], number=i) for i, place in enumerate(order.permutation(len(test)))]
        clips += test
    return clips


def write_machine(folder: Path, machine: str, settings: Demo, jobs: int = 1) -> None:
    """Write the recordings of a machine.

    Recordings that exist are made again. Each is written aside and renamed, so that an interrupted run leaves no
    incomplete one under a final name.

    Args:
        folder: of the corpus, laid out as this module says.
        machine: one of `asd.demo.machines.KINDS`.
        settings: of the corpus.
        jobs: number of processes; with more than one the calling script must be importable (`if __name__ ==
            "__main__"`).

    Raises:
        InputError: there is no such machine, or the folder has recordings that are not of this corpus.
    """
    folder = Path(folder)
    clips = plan(machine, settings)
    work = {folder / machine / clip.split / clip.name: (clip, settings.seed, settings.seconds) for clip in clips}
    strangers = sorted(set((folder / machine).glob("*/*.wav")) - set(work))
    if strangers:
        raise InputError(
            f"{folder / machine}: found {len(strangers)} recordings that this corpus does not have, such as "
            f"{strangers[0].name}, expected none; remove the folder or name another"
        )
    if jobs > 1:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as processes:
            for _ in processes.map(_write, work.items(), chunksize=16):
                pass
    else:
        for one in work.items():
            _write(one)

    for section, group in itertools.groupby(clips, lambda clip: clip.section):
        known, hidden = [], []
        for clip in group:
            (known if clip.number is None else hidden).append(clip)
        _write_attributes(folder / machine / f"attributes_{section}.csv", known)
        if hidden:
            name = f"ground_truth_{machine}_section_{section}_test.csv"
            _write_csv(folder / "ground_truth_data" / name, [(c.name, int(c.label == "anomaly")) for c in hidden])
            _write_csv(folder / "ground_truth_domain" / name, [(c.name, int(c.domain == "target")) for c in hidden])


def _shift(machine: str, section: str) -> Shift:
    return SHIFTS[machine][int(section) % len(SHIFTS[machine])]


def _write(work: tuple[Path, tuple[Clip, int, float]]) -> None:
    import soundfile

    path, what = work
    with written(path) as aside:
        soundfile.write(aside, record(*what), RATE, subtype="PCM_16")


def _write_attributes(path: Path, clips: list[Clip]) -> None:
    """Write name, key and value, key and value, …; a row ends with its last pair, as in the real sets."""
    keys = _shift(clips[0].machine, clips[0].section).keys
    rows = [["file_name", *(f"d{i}{column}" for i in range(1, len(keys) + 1) for column in "pv")]]
    for clip in clips:
        pairs = [(SPELLING.get(key, key), clip.values[key]) for key in keys if key in clip.values]
        cells = itertools.chain(*pairs) if clip.told else ["noAttribute"]
        rows.append([f"{clip.machine}/{clip.split}/{clip.name}", *cells])
    _write_csv(path, rows)


def _write_csv(path: Path, rows: list) -> None:
    with written(path) as aside, aside.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
