"""The table of all figures, and the comparison of models: hand values, and the ensemble."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hmean
from scored import SELECTION, TITLES, all_scores, chosen, long_form, row

from asd.results import long_form as form
from asd.settings import Metrics


def test_long_form_holds_every_figure_and_its_means():
    scores = all_scores()
    metrics = long_form(scores, SELECTION, Metrics(resamples=50, splits=4))
    assert list(metrics.columns) == list(form.COLUMNS)
    keys = ["model", "machine", "part", "section", "domain", "metric", "mean", "selection"]
    assert not metrics.duplicated(keys).any()
    values = [
        row(metrics, model="oe", machine="fan", section=section, mean="", metric="auc", domain=domain)["value"]
        for section in ("00", "01")
        for domain in ("source", "target")
    ]
    machine = {"model": "oe", "machine": "fan", "metric": "auc"}
    assert row(metrics, **machine, domain="source")["value"] == pytest.approx(hmean(values[::2]))
    assert row(metrics, **machine, domain="total")["value"] == pytest.approx(hmean(values))
    assert row(metrics, **machine, domain="source", mean="arithmetic")["value"] == pytest.approx(np.mean(values[::2]))
    assert row(metrics, **machine, domain="source")["over"] == "00 01"
    each = [row(metrics, model="oe", machine=name, metric="auc", domain="total")["value"] for name in scores["oe"]]
    mean = row(metrics, model="oe", machine="", metric="auc", domain="total", mean="machines")
    assert mean["value"] == pytest.approx(np.mean(each))
    assert mean["over"] == "fan valve slider"
    ensemble = row(metrics, model="ensemble", machine="fan", metric="auc", domain="total", selection="in_sample")
    assert (
        ensemble[["value", "low", "high"]].tolist()
        == row(metrics, **machine, domain="total")[["value", "low", "high"]].tolist()
    )
    honest = row(metrics, model="ensemble", machine="", metric="omega", domain="all", selection="cross_fitted")
    assert 0 < honest["value"] < 1
    assert np.isnan(honest["low"])
    ranked = metrics["metric"].isin(["auc", "pauc", "pauc_both", "pauc_own", "omega"])
    inner = metrics[ranked & (metrics["selection"] != "cross_fitted")]
    assert (inner["low"] < inner["high"])[(inner["value"] < 1) & (inner["value"] > 0.475)].all()
    assert inner[inner["value"] == 1]["low"].isna().all()
    assert metrics[~ranked]["low"].isna().all()


def test_comparison_of_models():
    scores = all_scores()
    for machine, clips in scores["oe"].items():
        scores["global"][machine] = clips.assign(score=clips["score"] + 3 * (clips["label"] == "anomaly"))
    settings = Metrics(resamples=100)
    pairs = form.comparison(form.system_figures(scores, settings)["development"], TITLES, settings)
    metrics = long_form(scores, SELECTION, settings)
    keys = {"machine": "", "metric": "omega", "domain": "all", "mean": "harmonic"}
    one = pairs[np.logical_and.reduce([pairs[key] == value for key, value in keys.items()])].iloc[0]
    assert one[["first", "second"]].tolist() == ["CNN-Global", "CNN-OE"]
    ours = [row(metrics, model=model, **keys) for model in TITLES]
    assert one["difference"] == pytest.approx(ours[0]["value"] - ours[1]["value"])
    assert one["low"] < one["difference"] < one["high"]
    assert one["probability"] > 0.95


def test_cross_fitting_one_model_changes_nothing():
    scores = {"oe": all_scores()["oe"]}
    metrics = long_form(scores, chosen(fan="oe", valve="oe", slider="oe"), Metrics(resamples=0, splits=3))
    seen, unseen = (metrics[metrics["selection"] == kind] for kind in ("in_sample", "cross_fitted"))
    np.testing.assert_array_equal(unseen["value"], seen["value"])


def test_labelled_evaluation_clips_have_rows_of_their_own():
    scores = all_scores()
    for by_machine in scores.values():
        for machine, clips in by_machine.items():
            later = clips[clips["split"] == "test"].assign(part="evaluation", section="03")
            later = later.assign(file="e" + later["file"] + later.index.astype(str))
            by_machine[machine] = pd.concat([clips, later], ignore_index=True)
    metrics = long_form(scores, SELECTION, Metrics(resamples=0, splits=2))
    assert set(metrics["part"]) == {"development", "evaluation"}
    evaluated = row(metrics, model="oe", machine="fan", part="evaluation", metric="auc", domain="source")
    assert evaluated["over"] == "03"
