"""Every figure of every system in one long table with means and intervals, and a comparison of pairs of systems."""

import logging
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asd.results.ensemble import Scores, cross_fitted, on_halves, same_clips
from asd.results.metrics import (
    ALL,
    DOMAINS,
    FIGURES,
    WITH_INTERVAL,
    Figures,
    compare,
    interval,
    joined,
    judged,
    lacking,
    machine_figures,
    mean_figures,
    sections,
    with_totals,
)
from asd.results.metrics_table import COLUMNS, ENSEMBLE

if TYPE_CHECKING:
    from asd.settings import Metrics

PARTS = ("development", "additional", "evaluation")

log = logging.getLogger(__name__)


def system_figures(scores: Scores, settings: "Metrics") -> dict[str, dict[str, Figures]]:
    """Return the figures of each model on the labelled test clips, paired resample by resample.

    Args:
        scores: of all models and machines.
        settings: how figures are computed from scores.

    Returns:
        Part of the corpus (development, and others with labels) -> model -> figures.

    Raises:
        InputError: the scores of two models on a machine are not of the same clips.
    """
    same_clips(scores)
    parts = {}
    for part in PARTS:
        parts[part] = part_figures(scores, part, settings)
        if part == "development" or next(iter(parts[part].values())).sections:
            name_undefined(next(iter(scores.values())), part)
        else:
            del parts[part]
    return parts


def part_figures(scores: Scores, part: str, settings: "Metrics") -> dict[str, Figures]:
    """Return the figures of each model on the labelled test clips of one part, paired if these are the same clips.

    Args:
        scores: of all models and machines.
        part: of the corpus.
        settings: how figures are computed from scores.
    """
    return {
        model: joined(
            machine_figures(machine, judged(clips, part), settings.max_fpr, settings.resamples, settings.seed)
            for machine, clips in machines.items()
        )
        for model, machines in scores.items()
    }


def half_figures(scores: Scores, settings: "Metrics") -> dict[str, dict[str, Figures]]:
    """Return machine -> model -> figures on halves of the development clips (`asd.results.ensemble.on_halves`)."""
    return {
        machine: {
            model: on_halves(
                machine, judged(machines[machine]), settings.splits, max_fpr=settings.max_fpr, seed=settings.seed
            )
            for model, machines in scores.items()
        }
        for machine in next(iter(scores.values()))
    }


def long_form(
    figures: dict[str, dict[str, Figures]],
    halves: dict[str, dict[str, Figures]],
    titles: dict[str, str],
    selection: pd.DataFrame,
    settings: "Metrics",
) -> pd.DataFrame:
    """Return every figure of every model and of the ensemble.

    The cross-fitted value of the ensemble is its in-sample value plus the change, on halves of the clips, if the model
    is chosen on the other half instead of on all clips. The mean over the halves itself is not used, since a figure of
    half the clips is not comparable with one of all clips (the pAUC of 25 normal clips is higher than that of 50).

    Args:
        figures: part -> model -> figures, as from `system_figures`.
        halves: machine -> model that the ensemble chooses from -> figures, as from `half_figures`.
        titles: model -> its title.
        selection: `machine` and `model`, one row per machine (`asd.results.ensemble.selection`).
        settings: how figures are computed from scores.

    Returns:
        The table `asd.results.metrics_table`.
    """
    chosen = dict(zip(selection["machine"], selection["model"], strict=True))
    frames = []
    for part, models in figures.items():
        for model, own in models.items():
            frames.append(rows(own, list(chosen), settings, model=model, title=titles[model], part=part, selection=""))
        ensemble = {"model": "ensemble", "title": ENSEMBLE, "part": part}
        best = joined(models[model].of(machine) for machine, model in chosen.items())
        seen = rows(best, list(chosen), settings, selection="in_sample", **ensemble)
        frames.append(seen)
        if settings.splits and part == "development":
            pairs = []
            for machine, model in chosen.items():
                # The fallback need not be one of those chosen from; its machine has no labels, so no figures either.
                own = model if model in halves[machine] else next(iter(halves[machine]))
                pairs.append((halves[machine][own], cross_fitted(halves[machine], own)))
            here, unseen = (
                rows(joined(of_machine), list(chosen), settings, averaged=True)["value"]
                for of_machine in zip(*pairs, strict=True)
            )
            value = seen["value"] + (unseen - here)
            frames.append(seen.assign(value=value, low=np.nan, high=np.nan, selection="cross_fitted"))
    return pd.concat(frames, ignore_index=True)


def name_undefined(scores: dict[str, pd.DataFrame], part: str) -> None:
    """Log which sections lack clips that some figures need."""
    for machine, clips in scores.items():
        labelled = sections(judged(clips, part))
        if not labelled:
            log.warning("%s, %s: no labelled test clips; its figures are undefined (empty cells)", machine, part)
        for section, here in labelled.items():
            if missing := ", no ".join(lacking(here)):
                log.warning(
                    "%s, section %s, %s: no %s; figures that need them are undefined and left out of every mean",
                    *(machine, section, part, missing),
                )


def rows(
    figures: Figures, machines: list[str], settings: "Metrics", averaged: bool = False, **labels: str
) -> pd.DataFrame:
    """Return the long form of one system.

    Args:
        figures: of its sections.
        machines: the machines that get means, with or without sections.
        settings: how figures are computed from scores.
        averaged: True: a value is the mean over all weightings (halves of the clips), without an interval. False: it is
            that of the first weighting (the clips themselves), with an interval from the others.
        labels: model, title, part, selection, which are the same in every row.
    """

    def block(values: np.ndarray, machine: str, section: str, mean: str, over: list[str] | str) -> pd.DataFrame:
        value = values.mean(axis=1) if averaged else values[:, 0]
        low = high = np.full(len(ALL), np.nan)
        if not averaged:
            given = [key in WITH_INTERVAL for key in ALL]
            low, high = np.where(given, interval(values, settings.level), np.nan)
        metric, domain = zip(*ALL, strict=True)
        frame = pd.DataFrame({"metric": metric, "domain": domain, "value": value, "low": low, "high": high})
        return frame.assign(machine=machine, section=section, mean=mean, over=over)

    blocks = [
        block(with_totals(values), machine, section, mean="", over="")
        for (machine, section), values in zip(figures.sections, figures.values, strict=True)
    ]
    for machine in machines:
        own = figures.of(machine)
        over = _over(own, lambda key: key[1])
        blocks += [block(mean_figures(own, mean), machine, "", mean, over) for mean in ("harmonic", "arithmetic")]
    if figures.sections:
        for mean in ("harmonic", "arithmetic", "machines"):
            over = _over(figures, (lambda key: key[0]) if mean == "machines" else "/".join)
            blocks.append(block(mean_figures(figures, mean), "", "", mean, over))
    return pd.concat(blocks, ignore_index=True).assign(**labels).reindex(columns=COLUMNS)


def _over(figures: Figures, name: Callable[[tuple[str, str]], str]) -> list[str]:
    """For each of `ALL`, the names of the sections or machines that enter its mean."""
    defined = ~np.isnan(figures.values[:, :, 0])
    over = []
    for metric, domain in ALL:
        parts = DOMAINS if domain == "total" else (domain,)
        enters = defined[:, [FIGURES.index((metric, part)) for part in parts]].any(axis=1)
        names = [name(key) for key, here in zip(figures.sections, enters, strict=True) if here]
        over.append(" ".join(dict.fromkeys(names)))
    return over


def comparison(figures: dict[str, Figures], titles: dict[str, str], settings: "Metrics") -> pd.DataFrame:
    """Compare every pair of models on the same clips.

    The ensemble is left out, since it is chosen by the labels of these clips.

    Args:
        figures: model -> figures, paired resample by resample (`system_figures`).
        titles: model -> its title.
        settings: how figures are computed from scores.

    Returns:
        One row per pair and figure: first, second (titles), machine (empty: all), domain, metric, mean (as in
        `COLUMNS`), difference (first - second) with its interval low, high, and the probability that the first model is
        better.
    """
    machines = next(iter(figures.values())).machines
    metric, domain = zip(*WITH_INTERVAL, strict=True)
    frames = []
    for first, second in combinations(figures, 2):
        for machine, mean in [*((machine, "harmonic") for machine in machines), ("", "harmonic"), ("", "machines")]:
            pair = [figures[model].of(machine) if machine else figures[model] for model in (first, second)]
            if not pair[0].sections:
                continue  # no labels at all
            values = [mean_figures(one, mean)[[ALL.index(key) for key in WITH_INTERVAL]] for one in pair]
            difference, low, high, probability = compare(*values, settings.level)
            frame = pd.DataFrame({"domain": domain, "metric": metric})
            frames.append(
                frame.assign(
                    first=titles[first],
                    second=titles[second],
                    machine=machine,
                    mean=mean,
                    difference=difference,
                    low=low,
                    high=high,
                    probability=probability,
                )
            )
    columns = ["first", "second", "machine", "domain", "metric", "mean", "difference", "low", "high", "probability"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
