"""Faults of recordings, and levels and spectra of a corpus, to be looked at before anything is computed from it.

`examine` reads every clip; `write_plots` draws each machine's levels and spectra by split and domain.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd.corpus import recording_count
from asd.errors import InputError
from asd.files import written
from asd.progress import progress
from asd.settings import Check, LogMel
from asd.soundfiles import float_blocks
from asd.threshold import FEWEST, OWN

if TYPE_CHECKING:
    import pandas as pd

BANDS = 1000 * 2.0 ** (np.arange(-15, 14) / 3)
"""(29,), centres of the third-octave bands in Hz, 31 to 20159 (IEC 61260-1, base 2)."""

FULL = 0.9999
"""Samples of at least this absolute value count as full scale: the last level of 16 bits, and beyond."""

SILENCE = 1e-10
"""Floor of the mean square: -100 dB."""

COLUMNS = ["machine", "file", "section", "split", "domain", "label"]


def examine(
    clips: "pd.DataFrame", files: list[Path], logmel: LogMel, check: Check, threads: int = 1
) -> tuple["pd.DataFrame", np.ndarray]:
    """Read every clip and find its faults, levels and spectrum.

    Args:
        clips: the manifest's columns, one row per clip.
        files: the recordings, in the same order.
        logmel: how recordings are read.
        check: what counts as a fault, and which faults are refused.
        threads: number of recordings that are read at the same time.

    Returns:
        A table with one row per clip: machine, file, section, split, domain, label, rate (Hz), seconds, level and peak
        (dB of full scale, the level without the mean), clipped (share of samples), silence (share of the time), sound
        (SHA-256 of the samples), fault ("", unreadable, silent, gaps, clipped, short or repeated), reason, refused
        (bool). And the spectra (clips, 29): level of each third-octave band in dB of full scale, nan above half the
        rate.
    """
    import pandas as pd

    with ThreadPoolExecutor(threads) as pool:
        heard = pool.map(partial(_heard, logmel=logmel, check=check), files)
        found = list(progress(heard, "check", "recordings", len(files)))
    table = pd.DataFrame([facts for facts, _ in found])
    _mark_repeated(clips, table, check)
    table["refused"] = table["fault"].isin({"unreadable", *check.refuse})
    return pd.concat([clips[COLUMNS].reset_index(drop=True), table], axis=1), np.stack([bands for _, bands in found])


def _heard(path: Path, logmel: LogMel, check: Check) -> tuple[dict, np.ndarray]:
    """The row of a recording in the table, and its spectrum (29,)."""
    try:
        with float_blocks(path, logmel) as (rate, blocks):
            measured = Measured(rate, check.silent)
            for block in blocks:
                measured.add(block)
    except InputError as error:
        unknown = dict.fromkeys(("seconds", "level", "peak", "clipped", "silence"), np.nan)
        facts = {"rate": 0, **unknown, "sound": "", "fault": "unreadable", "reason": str(error)}
        return facts, np.full(len(BANDS), np.nan)
    facts = measured.facts()
    reasons = {
        "short": (facts["seconds"] < check.short, f"{facts['seconds']:.3f} s"),
        "silent": (facts["level"] < check.silent, f"level {facts['level']:.1f} dB"),
        "gaps": (facts["silence"] > check.gaps, f"{facts['silence']:.1%} of the time silent"),
        "clipped": (facts["clipped"] > check.clipped, f"{facts['clipped']:.2%} of the samples at full scale"),
    }
    if reasons["silent"][0]:
        del reasons["gaps"]  # a silent recording need not be reported twice
    # The first fault that is refused; if none is, the first fault.
    faults = sorted((name for name, (found, _) in reasons.items() if found), key=lambda name: name not in check.refuse)
    fault = faults[0] if faults else ""
    facts |= {"fault": fault, "reason": "; ".join(reasons[name][1] for name in faults)}
    return facts, measured.spectrum.levels()


class Measured:
    """What is measured in a recording that comes in blocks, so that hours of it take little memory."""

    def __init__(self, rate: int, silent: float) -> None:
        """Begin with no sound.

        Args:
            rate: in Hz.
            silent: a piece of 10 ms, without its mean, is silent if its level is below this, in dB of full scale.
        """
        self.rate, self.silent = rate, silent
        self.samples, self.mean, self.squares = 0, 0.0, 0.0
        self.peak, self.clipped = 0.0, 0
        self.pieces, self.silent_pieces, self.rest = 0, 0, np.empty(0, np.float32)
        self.sound = hashlib.sha256()
        self.spectrum = Spectrum(rate)

    def add(self, block: np.ndarray) -> None:
        """Add the next samples, (samples,) float32 with full scale at 1."""
        count, magnitude = len(block), np.abs(block)
        # The variances of two parts give that of the whole (Chan, Golub and LeVeque 1983, The American Statistician).
        mean, both = float(np.mean(block, dtype=np.float64)), self.samples + count
        self.squares += count * float(np.var(block, dtype=np.float64))
        self.squares += (mean - self.mean) ** 2 * self.samples * count / both
        self.mean += (mean - self.mean) * count / both
        self.samples = both
        self.peak = max(self.peak, float(magnitude.max()))
        self.clipped += int((magnitude >= FULL).sum())
        self.sound.update(np.ascontiguousarray(block))
        size, sound = max(2, self.rate // 100), np.concatenate([self.rest, block])
        whole = len(sound) // size * size
        power = sound[:whole].reshape(-1, size).var(axis=1, dtype=np.float64)
        self.pieces += len(power)
        self.silent_pieces += int((decibel(power) < self.silent).sum())
        self.rest = sound[whole:]
        self.spectrum.add(block)

    def facts(self) -> dict:
        """Return rate, seconds, level, peak, clipped, silence and sound, as in the table of `examine`."""
        return {
            "rate": self.rate,
            "seconds": self.samples / self.rate,
            "level": decibel(self.squares / self.samples),
            "peak": decibel(self.peak**2),
            "clipped": self.clipped / self.samples,
            "silence": self.silent_pieces / max(1, self.pieces),
            "sound": self.sound.hexdigest(),
        }


def _mark_repeated(clips: "pd.DataFrame", table: "pd.DataFrame", check: Check) -> None:
    """Mark the recordings whose sound is also in the other split of the machine; the table is changed in place."""
    rows = clips[["machine", "split", "file"]].reset_index(drop=True).assign(sound=table["sound"])
    for _, same in rows[rows["sound"] != ""].groupby(["machine", "sound"], sort=False):
        if same["split"].nunique() < 2:
            continue
        for row, split in same["split"].items():
            if table.at[row, "fault"] in ("", *({"gaps", "clipped", "short", "silent"} - {*check.refuse})):
                other = same["file"][same["split"] != split].iloc[0]
                table.at[row, "fault"] = "repeated"
                table.at[row, "reason"] = f"the same sound as {other}, which is in the other split"


def decibel(power: np.ndarray | float) -> np.ndarray | float:
    """Return mean squares (of any shape; full scale 1) in dB of full scale, at least -100."""
    return 10 * np.log10(np.maximum(power, SILENCE))


class Spectrum:
    """The level of each third-octave band of a recording that comes in blocks.

    A sine at full scale has -3 dB. The power is averaged over Hann windows of an eighth of a second that overlap by
    half (Welch 1967).
    """

    def __init__(self, rate: int) -> None:
        """Begin with no sound.

        Args:
            rate: in Hz.
        """
        self.rate, self.length = rate, max(2, rate // 8)
        self.window = np.hanning(self.length + 1)[:-1]
        self.power, self.windows = np.zeros(self.length // 2 + 1), 0
        self.rest = np.empty(0, np.float32)

    def add(self, block: np.ndarray) -> None:
        """Add the next samples, (samples,) with full scale at 1."""
        sound, hop = np.concatenate([self.rest, block]), self.length // 2
        starts = range(0, len(sound) - self.length + 1, hop)
        for start in starts:
            self.power += np.abs(np.fft.rfft(sound[start : start + self.length] * self.window)) ** 2
        self.windows += len(starts)
        self.rest = sound[len(starts) * hop :]

    def levels(self) -> np.ndarray:
        """Return the levels in dB of full scale, (29,); nan above half the rate."""
        if not self.windows:  # shorter than a window
            self.add(np.zeros(self.length - len(self.rest), np.float32))
        # Parseval: the sum over the bins is the mean square.
        power = self.power / self.windows * 2 / (self.length * np.sum(self.window**2))
        frequency = np.fft.rfftfreq(self.length, 1 / self.rate)
        low, high = BANDS * 2 ** (-1 / 6), BANDS * 2 ** (1 / 6)
        sums = np.concatenate([[0], np.cumsum(power)])
        edges = np.searchsorted(frequency, np.stack([low, high]))
        return np.where(high <= self.rate / 2, decibel(sums[edges[1]] - sums[edges[0]]), np.nan)


def summary(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return per machine, split and domain: number of clips, lengths, median level, and number of faulty clips.

    Args:
        table: the table of `examine`.
    """
    grouped = table.groupby(["machine", "split", "domain"], sort=False)
    return grouped.agg(
        clips=("file", "size"),
        rates=("rate", lambda rates: "/".join(str(rate) for rate in sorted(set(rates)) if rate) or "-"),
        shortest=("seconds", "min"),
        longest=("seconds", "max"),
        quietest=("level", "min"),
        median_level=("level", "median"),
        loudest=("level", "max"),
        faulty=("fault", lambda faults: int((faults != "").sum())),
        refused=("refused", "sum"),
    ).reset_index()


def few(clips: "pd.DataFrame") -> list[str]:
    """Return what cannot be done, or not well, with so few training recordings, one sentence per machine and reason.

    Args:
        clips: the manifest's columns, one row per clip.
    """
    said = []
    for machine, rows in clips[clips["split"] == "train"].groupby("machine", sort=False):
        counts = rows.groupby("section").apply(recording_count, include_groups=False)
        for chosen, what in (
            (counts < FEWEST, f"fewer than {FEWEST}, so nothing is decided there"),
            ((counts >= FEWEST) & (counts < OWN), f"fewer than {OWN}, so the threshold is uncertain"),
        ):
            if chosen.any():
                named = ", ".join(f"{section} ({count})" for section, count in counts[chosen].items())
                said.append(f"{machine}: training recordings of section {named}: {what}")
        values = {(key, value) for text in rows["attributes"] for key, value in json.loads(text).items()}
        if len(counts) == 1 and len(values) == len({key for key, _ in values}):
            said.append(
                f"{machine}: a single section, and no attribute with several values: a network has only generated "
                "faults to learn from; train.scope: all learns from several machines, models of spectra need no network"
            )
    return said


def write_plots(folder: Path, table: "pd.DataFrame", spectra: np.ndarray) -> None:
    """Draw each machine's levels and spectra by split and domain: `folder/<machine>.svg`.

    Args:
        folder: where to write the plots.
        table: the table of `examine`, one row per clip.
        spectra: its spectra, (clips, 29).
    """
    import matplotlib
    from matplotlib.figure import Figure

    colours = {"source": "#0072b2", "target": "#d55e00", "": "#444444"}  # Okabe and Ito's, safe for colour blindness
    for machine, rows in table.groupby("machine", sort=False):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.6])
        names = []
        for place, ((split, domain), some) in enumerate(rows.groupby(["split", "domain"], sort=False)):
            names.append(f"{split}\n{domain or 'any domain'}")
            spread = np.linspace(-0.3, 0.3, len(some)) if len(some) > 1 else [0.0]
            left.plot(place + np.asarray(spread), some["level"], ".", color=colours[domain], alpha=0.6)
            faulty = some["fault"].to_numpy() != ""
            left.plot(place + np.asarray(spread)[faulty], some["level"][faulty], "x", color="black")
            known = spectra[some.index][~np.isnan(spectra[some.index]).all(1)]
            if len(known):
                bands = ~np.isnan(known).any(0)
                low, middle, high = np.percentile(known[:, bands], [10, 50, 90], axis=0)
                line = {"color": colours[domain], "linestyle": "-" if split == "train" else "--"}
                right.plot(BANDS[bands], middle, label=names[-1].replace("\n", ", "), **line)
                right.fill_between(BANDS[bands], low, high, color=colours[domain], alpha=0.12, linewidth=0)
        left.set(
            xticks=range(len(names)),
            xticklabels=names,
            ylabel="level in dB of full scale",
            title="level, one dot per clip",
        )
        right.set(xscale="log", xlabel="Hz", ylabel="third-octave level in dB of full scale")
        right.set_title("spectrum: median and 10 to 90 % of the clips")
        if right.lines:
            right.legend(fontsize="small")
        figure.suptitle(f"{machine} (×: faulty)" if (rows["fault"] != "").any() else machine)
        with written(folder / f"{machine}.svg") as aside, matplotlib.rc_context({"svg.hashsalt": machine}):
            figure.savefig(aside, metadata={"Date": None})
