"""One model per machine: the one with the highest AUC, harmonic mean over the development sections.

The choice uses the labels of the same clips on which the paper's tables are computed; `asd.results.tables` gives the
cross-fitted figures beside them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd.errors import InputError
from asd.files import read_table
from asd.results.metrics import (
    ALL,
    FIGURES,
    Figures,
    generator,
    halved,
    judged,
    machine_figures,
    mean_figures,
    section_figures,
    sections,
)

if TYPE_CHECKING:
    import pandas as pd

Scores = dict[str, dict[str, "pd.DataFrame"]]
"""Scored clips (one row per clip, as `asd.scores` reads them) by model, then by machine."""

CRITERIA = (("auc", "total"), ("auc", "all"))
"""Criteria of the choice: the harmonic mean of source and target or, if a domain is missing, the AUC of all clips."""


def read_scored(paths: list[Path], models: list[str]) -> Scores:
    """Read the score files of all models and machines, <anything>/<model>/<machine>.csv.

    Raises:
        InputError: a model lacks a machine that another one has, or a path is given twice or belongs to another model.
    """
    from asd.scores import read_scores

    found: Scores = {model: {} for model in models}
    for path in paths:
        model, machine = path.parent.name, path.stem
        if model not in found:
            raise InputError(f"{path}: its folder must be one of the models {', '.join(models)}; found {model}")
        if machine in found[model]:
            raise InputError(f"{path}: the scores of {model} on {machine} are given twice")
        found[model][machine] = read_scores(path)
    machines = list(dict.fromkeys(path.stem for path in paths))
    for model, by_machine in found.items():
        if missing := [machine for machine in machines if machine not in by_machine]:
            raise InputError(f"--scores: no file of the model {model} for {', '.join(missing)}")
    if not machines:
        raise InputError("--scores: at least one file is needed")
    return {model: {machine: by_machine[machine] for machine in machines} for model, by_machine in found.items()}


def same_clips(scores: Scores) -> None:
    """Refuse models whose scores are not of the same test clips.

    Raises:
        InputError: they are not. The message names the machine, the models and a clip.
    """
    columns = ["section", "file", "part", "domain", "label"]

    def of(model: str, machine: str) -> "pd.DataFrame":
        clips = scores[model][machine]
        return clips[clips["split"] == "test"][columns].sort_values(columns[:2], ignore_index=True)

    first, *others = scores
    for other in others:
        if odd := sorted(scores[first].keys() ^ scores[other].keys()):
            raise InputError(f"scores: {first} and {other} are not of the same machines; only one has {', '.join(odd)}")
    for machine in scores[first]:
        expected = of(first, machine)
        for other in others:
            found = of(other, machine)
            if not found.equals(expected):
                odd = expected.merge(found, how="outer", indicator=True).query("_merge != 'both'")["file"].unique()
                raise InputError(
                    f"scores of {machine}: the models {first} and {other} were not scored on the same test clips; "
                    f"{len(odd)} differ, the first {odd[0]}. Score both again from one manifest."
                )


def choose(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best model by the first criterion that is defined for every model.

    Args:
        values: (models, figures + totals, weightings), as from `asd.results.metrics.mean_figures`.

    Returns:
        (weightings,) index of the best model (of equal ones the first), and (weightings,) index of the criterion that
        decided; both are -1 if no criterion is defined.
    """
    chosen = np.full(values.shape[2], -1)
    criterion = np.full(values.shape[2], -1)
    for number, key in reversed(list(enumerate(CRITERIA))):
        figure = values[:, ALL.index(key)]
        defined = ~np.isnan(figure).any(axis=0)
        chosen = np.where(defined, np.nan_to_num(figure, nan=-1).argmax(axis=0), chosen)
        criterion = np.where(defined, number, criterion)
    return chosen, criterion


def selection(scores: Scores, fallback: str, candidates: list[str] | None = None) -> "pd.DataFrame":
    """Choose a model for each machine.

    Args:
        scores: of which the development part counts.
        fallback: the model of a machine without the labels to choose by.
        candidates: the models to choose from; None: all of `scores`.

    Returns:
        One row per machine: `machine`, `model`, `reason` (labels, fallback), `criterion` (auc_total, auc_all or empty),
        and for each model a column with the value that decided (empty with the fallback).

    Raises:
        InputError: the fallback is not one of the models, or the models were not scored on the same clips.
    """
    import pandas as pd

    same_clips(scores)
    if fallback not in scores:
        raise InputError(f"--fallback: {fallback} is not one of the models {', '.join(scores)}")
    models = candidates or list(scores)
    rows = []
    for machine in scores[models[0]]:
        values = np.stack([mean_figures(machine_figures(machine, judged(scores[model][machine]))) for model in models])
        (best,), (criterion,) = choose(values)
        row = {"machine": machine, "model": fallback, "reason": "fallback", "criterion": ""}
        decided = np.full(len(models), np.nan)
        if best >= 0:
            metric, domain = CRITERIA[criterion]
            row |= {"model": models[best], "reason": "labels", "criterion": f"{metric}_{domain}"}
            decided = values[:, ALL.index(CRITERIA[criterion]), 0]
        rows.append(row | dict(zip(models, decided, strict=True)))
    return pd.DataFrame(rows)


def chosen_model(selection: Path, machine: str) -> str:
    """Read which model was chosen for a machine.

    Raises:
        InputError: the selection has no row of the machine.
    """
    table = read_table(selection)
    chosen = dict(zip(table["machine"], table["model"], strict=True))
    if machine not in chosen:
        raise InputError(f"{selection}: no row of the machine {machine}; found {', '.join(chosen) or 'none'}")
    return chosen[machine]


def on_halves(machine: str, clips: "pd.DataFrame", splits: int, max_fpr: float = 0.1, seed: int = 0) -> Figures:
    """Return a model's figures on random halves of the clips of each domain and label; all models have the same halves.

    Args:
        machine: the machine's name.
        clips: its scored clips, one row per clip.
        splits: number of halvings.
        max_fpr: upper limit of the pAUC's false positive rate.
        seed: of the halvings.

    Returns:
        Figures with 2 · splits weightings: one half of each halving, then the other halves in the same order.
    """
    keys, values = [], np.empty((0, len(FIGURES), 2 * splits))
    for section, here in sections(clips).items():
        half = halved(here, splits, generator(seed, machine, section, "halves"))
        keys.append((machine, section))
        values = np.concatenate([values, section_figures(here, np.vstack([half, 1 - half]), max_fpr)[None]])
    return Figures(tuple(keys), values)


def cross_fitted(models: dict[str, Figures], fallback: str) -> Figures:
    """Return the figures of the choice on clips that it has not seen: choose on one half, judge on the other.

    This is two-fold cross-validation of the choice, repeated over many halvings (Varma and Simon 2006, "Bias in error
    estimation when using cross-validation for model selection").

    Args:
        models: the models' figures on halves of one machine's clips (`on_halves`).
        fallback: the model that is chosen if a half lacks labels.

    Returns:
        The figures on each half, of the model that was chosen on the other half.
    """
    values = np.stack([figures.values for figures in models.values()])
    best, _ = choose(np.stack([mean_figures(figures) for figures in models.values()]))
    best = np.roll(np.where(best < 0, list(models).index(fallback), best), len(best) // 2)
    chosen = values[best, :, :, np.arange(len(best))]
    return Figures(models[fallback].sections, np.moveaxis(chosen, 0, 2))
