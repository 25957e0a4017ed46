"""Which figures there are of a machine, and of which clips each is drawn (`figures` and `sound_figures` draw them)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from asd.report.figures import distributions, embedding_map, flattened, roc, systems, training
from asd.report.sound_figures import examples, spectra
from asd.report.style import DOMAINS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from asd.cache import Cache
    from asd.features import Features

CLIPS_PER_MEAN = 200
"""Largest number of clips in an average spectrum, evenly chosen; more clips would hardly change it."""
CLIPS_PER_SECTION = 300
"""Largest number of training clips per section and domain on the map, evenly chosen."""


def clip_embeddings(features: "Features", rows: np.ndarray) -> np.ndarray:
    """Return the last stage of the clips with these row numbers, averaged over windows: (clips, width) float32."""
    width = int(features.widths[-1])
    offsets = features.offsets
    return np.stack([features.rows(offsets[row], offsets[row + 1])[:, -width:].mean(0) for row in rows])


def evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """Return the row numbers (rows,), or `most` of them, evenly spaced, if they are more."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def on_the_map(clips: "pd.DataFrame") -> np.ndarray:
    """Return the row numbers (drawn,) of the clips that are drawn.

    These are all test clips, and at most `CLIPS_PER_SECTION` training clips of each section and domain.
    """
    numbers = np.arange(len(clips))
    train = (clips["split"] == "train").to_numpy()
    some = [numbers[~train]]
    for key in {*zip(clips["section"], clips["domain"], strict=True)}:
        here = train & (clips["section"] == key[0]).to_numpy() & (clips["domain"] == key[1]).to_numpy()
        some.append(evenly(numbers[here], CLIPS_PER_SECTION))
    return np.sort(np.concatenate(some))


def mean_spectra(cache: "Cache") -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """Return section -> (domain, label) -> mean log-mel (mels,) in dB over frames and clips, for `spectra`."""
    clips = cache.clips
    groups: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    for section in sorted(clips["section"].unique()):
        for key in [(domain, label) for domain in DOMAINS for label in ("normal", "anomaly", "")]:
            rows = np.flatnonzero(
                (clips["section"] == section) & (clips["domain"] == key[0]) & (clips["label"] == key[1])
            )
            if len(rows):
                rows = evenly(rows, CLIPS_PER_MEAN)
                total = sum(cache.read_logmel([row])[0].mean(1, dtype=np.float64) for row in rows)
                groups.setdefault(section, {})[key] = total / len(rows)
    return groups


def telling_clips(scores: "pd.DataFrame", section: str) -> tuple[int, int] | None:
    """Return the rows (index labels) of a section's typical and of its most anomalous test clip.

    The most anomalous clip has the highest score. The typical clip has the median score of the normal test clips of the
    same domain or, if there are none, of the training clips, which are known to be normal, or of the other test clips.

    Args:
        scores: one row per clip.
        section: the section.

    Returns:
        None if the section has no test clip, or no other than the most anomalous one.
    """
    here = scores[(scores["section"] == section) & scores["score"].notna()].sort_values(["score", "file"])
    test = here[here["split"] == "test"]
    if test.empty:
        return None
    highest = test.index[-1]
    alike = test[test["domain"] == test["domain"].iloc[-1]].drop(highest)
    training = here[here["split"] == "train"]
    for others in (alike[alike["label"] == "normal"], training, test.drop(highest)):
        if len(others):
            return int(others.index[len(others) // 2]), int(highest)
    return None


def example_spectrograms(cache: "Cache", scores: "pd.DataFrame") -> "Figure | None":
    """Draw the log-mels of the typical and the most anomalous clip of each section.

    Args:
        cache: an open log-mel cache of the machine.
        scores: one row per clip, in the order of the cache.

    Returns:
        The figure; None if no section has test clips.
    """
    sections = {}
    for section in sorted(scores["section"].unique()):
        if rows := telling_clips(scores, section):
            typical, anomalous = (cache.read_logmel([row])[0] for row in rows)
            sections[section] = (typical, anomalous, scores["label"][rows[1]])
    return examples(sections, cache.settings) if sections else None


def model_figures(
    systems_of: "dict[str, dict[str, pd.DataFrame]]", untrained: set[str]
) -> Iterator[tuple[str, "Figure"]]:
    """Yield machine (or "average") and the figure that compares the models on it; none if nothing is defined there.

    Args:
        systems_of: as from `asd.report.page.systems`.
        untrained: titles of the models for which no network is trained.
    """
    # All machines' axes begin at the same value, so that the figures can be compared.
    values = [table[["value", "low"]].min(axis=None) for tables in systems_of.values() for table in tables.values()]
    for name, tables in systems_of.items():
        if figure := systems(tables, untrained, min([0.5, *values])):
            yield name, figure


def machine_figures(
    cache: "Cache",
    features: "Features | None",
    curves: dict[str, "pd.DataFrame"],
    scores: dict[str, "pd.DataFrame"],
    clip_scores: "pd.DataFrame",
    max_fpr: float,
) -> Iterator[tuple[str, "Figure | None"]]:
    """Yield name and figure of each figure of one machine; None instead of a figure for which clips are missing.

    Args:
        cache: an open log-mel cache of the machine.
        features: for the map; None: no map.
        curves: network -> training curve; none: no figure of the training.
        scores: model -> the scores, of recordings or clips.
        clip_scores: of the chosen model, in the order of the cache; they choose the examples, and the map has their
            decisions.
        max_fpr: upper limit of the pAUC's false positive rate.
    """
    machine = cache.clips["machine"].iloc[0]
    for model, table in scores.items():
        if model != "ensemble":  # the scores of one of the others
            yield f"roc-{model}", roc(table, max_fpr)
            yield f"scores-{model}", distributions(table)
    if curves:
        yield "training", training(curves)
    yield "spectra", spectra(mean_spectra(cache), cache.settings)
    yield "examples", example_spectrograms(cache, clip_scores)
    if features is not None:
        rows = on_the_map(features.clips)
        clips = features.clips.iloc[rows].assign(decision=clip_scores["decision"].iloc[rows])
        links = [f"#{machine}-{row}" for row in rows]
        yield "map", embedding_map(flattened(clip_embeddings(features, rows)), clips.reset_index(drop=True), links)
