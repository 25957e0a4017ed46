"""Made-up scores of two models on three machines, and their table of figures."""

import numpy as np
import pandas as pd

from asd.results import long_form as form


def scored(seed, machine="fan", sections=("00", "01"), kind=4):
    rng = np.random.default_rng(seed)
    rows = [
        (f"section_{section}_{domain}_{split}_{label}_{number:04d}.wav", section, split, domain, label)
        for section in sections
        for domain in ("source", "target")
        for split, label in (("test", "normal"), ("test", "anomaly"), ("train", "normal"))
        for number in range(kind)
    ]
    frame = pd.DataFrame(rows, columns=["file", "section", "split", "domain", "label"])
    frame = frame.assign(part="development", recording="")
    frame["score"] = rng.normal(size=len(frame)) + (frame["label"] == "anomaly")
    return frame.assign(decision=(frame["score"] > 1).astype(int))[
        ["file", "section", "split", "part", "domain", "label", "recording", "score", "decision"]
    ]


TITLES = {"global": "CNN-Global", "oe": "CNN-OE"}


def all_scores():
    return {
        model: {machine: scored(10 * row + column) for column, machine in enumerate(("fan", "valve", "slider"))}
        for row, model in enumerate(TITLES)
    }


def long_form(scores, selection, settings):
    figures, halves = form.system_figures(scores, settings), form.half_figures(scores, settings)
    return form.long_form(figures, halves, TITLES, selection, settings)


def chosen(**models):
    return pd.DataFrame({"machine": list(models), "model": list(models.values())})


SELECTION = chosen(fan="oe", valve="global", slider="oe")


def row(metrics, **keys):
    keys = {"part": "development", "section": "", "mean": "harmonic", "selection": "", **keys}
    found = metrics[np.logical_and.reduce([metrics[key] == value for key, value in keys.items()])]
    assert len(found) == 1, keys
    return found.iloc[0]
