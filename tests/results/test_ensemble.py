"""The choice of a model for each machine: by hand values, without labels, and on clips not chosen by."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asd.errors import InputError
from asd.results.ensemble import choose, cross_fitted, on_halves, read_scored, selection
from asd.results.metrics import ALL, FIGURES, Figures, machine_figures, mean_figures

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"


def scored(strength, sections=("00", "01"), kind=10, seed=0):
    """Scores of one model on one machine: anomalies are `strength` deviations above normal clips."""
    rng = np.random.default_rng(seed)
    rows = [
        {"file": f"section_{section}_{domain}_test_{label}_{number:04d}.wav", "section": section, "domain": domain,
         "label": label}
        for section in sections
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for number in range(kind)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).assign(split="test", part="development", recording="")
    frame["score"] = rng.normal(size=len(frame)) + strength * (frame["label"] == "anomaly")
    frame["decision"] = (frame["score"] > 1).astype(int)
    return frame[["file", "section", "split", "part", "domain", "label", "recording", "score", "decision"]]


def total(frame):
    return mean_figures(machine_figures("m", frame))[ALL.index(("auc", "total")), 0]


def test_the_highest_total_is_chosen_machine_by_machine():
    scores = {
        "global": {"fan": scored(2, seed=1), "valve": scored(0.5, seed=2)},
        "local": {"fan": scored(0.5, seed=3), "valve": scored(2, seed=4)},
    }
    table = selection(scores, fallback="global")
    assert list(table.columns) == ["machine", "model", "reason", "criterion", "global", "local"]
    assert table[["machine", "model", "reason", "criterion"]].to_numpy().tolist() == [
        ["fan", "global", "labels", "auc_total"],
        ["valve", "local", "labels", "auc_total"],
    ]
    for _, row in table.iterrows():
        for model in scores:
            assert row[model] == total(scores[model][row["machine"]])


def test_equals_go_to_the_first():
    scores = {"b": {"fan": scored(1)}, "a": {"fan": scored(1)}}
    assert selection(scores, fallback="a")["model"].tolist() == ["b"]


def test_training_clips_and_other_parts_do_not_count():
    good, bad = scored(2, seed=1), scored(0, seed=2)

    def mixed(judged, rest):
        training = rest.assign(split="train", file="t" + rest["file"])
        return pd.concat([judged, training, rest.assign(part="evaluation", file="e" + rest["file"])])

    scores = {"bad": {"fan": mixed(bad, good)}, "good": {"fan": mixed(good, bad)}}
    table = selection(scores, fallback="bad")
    assert table["model"].tolist() == ["good"]
    assert table["bad"][0] == total(bad)


def test_without_labels_the_fallback():
    unlabelled = scored(1).assign(label="", domain="")
    table = selection({"a": {"fan": unlabelled}, "b": {"fan": unlabelled}}, fallback="b")
    assert table.loc[0, ["model", "reason", "criterion"]].tolist() == ["b", "fallback", ""]
    assert table[["a", "b"]].isna().all(axis=None)


def test_without_a_domain_the_auc_of_all_clips():
    weak, strong = scored(0.2).assign(domain=""), scored(2).assign(domain="")
    table = selection({"weak": {"fan": weak}, "strong": {"fan": strong}}, fallback="weak")
    assert table.loc[0, ["model", "reason", "criterion"]].tolist() == ["strong", "labels", "auc_all"]


def test_other_clips_are_refused():
    one, other = scored(1), scored(1).iloc[1:]
    with pytest.raises(InputError, match=r"fan.*a and b.*section_00_source_test_normal_0000\.wav"):
        selection({"a": {"fan": one}, "b": {"fan": other}}, fallback="a")
    relabelled = one.assign(label=["anomaly", *one["label"][1:]])
    with pytest.raises(InputError, match=r"1 differ"):
        selection({"a": {"fan": one}, "b": {"fan": relabelled}}, fallback="a")
    with pytest.raises(InputError, match=r"c is not one of the models a"):
        selection({"a": {"fan": one}}, fallback="c")


def test_choose_prefers_the_first_criterion():
    values = np.full((2, len(ALL), 3), np.nan)
    values[:, FIGURES.index(("auc", "all")), :2] = [[0.4, 0.4], [0.6, 0.6]]
    values[:, ALL.index(("auc", "total")), 0] = [0.9, 0.1]
    best, criterion = choose(values)
    assert best.tolist() == [0, 1, -1]
    assert criterion.tolist() == [0, 1, -1]


def halves(models, splits):
    return {name: on_halves("fan", frame, splits) for name, frame in models.items()}


def test_halves_make_the_whole():
    frame = scored(1, kind=20)
    values = on_halves("fan", frame, splits=300).values
    expected = machine_figures("fan", frame).values[:, :, 0]
    auc = FIGURES.index(("auc", "source"))
    # The AUC is a mean over pairs, so that halves estimate it without bias.
    np.testing.assert_allclose(values.mean(axis=2)[:, auc], expected[:, auc], atol=0.01)
    # Of one kind of 20 clips each half has 10: what one half gains the other loses.
    assert np.corrcoef(values[0, auc, :300], values[0, auc, 300:])[0, 1] < 0


def test_a_half_is_judged_with_the_choice_of_the_other():
    value = {"a": [0.6, 0.7, 0.8, 0.6], "b": [0.5, 0.9, 0.7, 0.7]}  # two halvings: halves 0 and 2, 1 and 3
    models = {
        name: Figures((("fan", "00"),), np.broadcast_to(figures, (1, len(FIGURES), 4)).copy())
        for name, figures in value.items()
    }
    judged = cross_fitted(models, fallback="a").values[0, 0]
    # Chosen on 0: a (judged on 2), on 1: b (on 3), on 2: a (on 0), on 3: b (on 1).
    assert judged.tolist() == [0.6, 0.9, 0.8, 0.7]


def test_choosing_among_noise_is_worth_nothing_on_unseen_clips():
    models = [scored(0, sections=("00",), kind=10, seed=seed) for seed in range(120)]
    key = ALL.index(("auc", "total"))

    def unseen(*frames):
        some = {str(number): frame for number, frame in enumerate(frames)}
        return mean_figures(cross_fitted(halves(some, splits=20), fallback="0"))[key].mean()

    pairs = list(zip(models[::2], models[1::2], strict=True))
    honest = np.array([unseen(one, two) for one, two in pairs])
    gain = honest - [(unseen(one) + unseen(two)) / 2 for one, two in pairs]
    assert abs(gain.mean()) < 3 * gain.std() / np.sqrt(len(pairs))
    seen = np.array([max(total(one), total(two)) for one, two in pairs])
    assert (seen - honest).mean() > 0.03


def test_halves_without_a_kind_are_undefined():
    values = cross_fitted(halves({"a": scored(1, kind=1)}, splits=5), fallback="a").values
    assert np.isnan(values.mean(axis=2)[:, FIGURES.index(("auc", "source"))]).all()


@pytest.fixture
def files(tmp_path):
    for seed, model in enumerate(("global", "local")):
        for machine in ("fan", "valve"):
            path = tmp_path / "scores" / model / f"{machine}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            frame = scored(2 if (model, machine) == ("local", "fan") else 1, seed=seed)
            if machine == "valve":
                frame = frame.assign(label="", domain="")
            frame.assign(threshold=0.5).to_csv(path, index=False)
    return tmp_path


def test_read_scored_says_what_is_missing(files):
    paths = sorted((files / "scores").rglob("*.csv"))
    assert list(read_scored(paths, ["local", "global"])) == ["local", "global"]
    with pytest.raises(InputError, match=r"no file of the model local for valve"):
        read_scored(paths[:-1], ["global", "local"])
    with pytest.raises(InputError, match=r"one of the models global; found local"):
        read_scored(paths, ["global"])
    with pytest.raises(InputError, match=r"given twice"):
        read_scored([*paths, paths[0]], ["global", "local"])


def test_the_script(files):
    command = [sys.executable, SCRIPTS / "ensemble.py", "--scores", *sorted((files / "scores").rglob("*.csv"))]
    command += ["--models", "global", "local", "--fallback", "global", "--selection", files / "selection.csv"]
    command += ["--out-dir", files / "ensemble"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(files / "selection.csv", keep_default_na=False)
    assert table[["machine", "model", "reason"]].to_numpy().tolist() == [
        ["fan", "local", "labels"],
        ["valve", "global", "fallback"],
    ]
    assert "valve: no labels to choose by; the fallback, global" in done.stderr
    for machine, model in (("fan", "local"), ("valve", "global")):
        chosen = (files / "ensemble" / f"{machine}.csv").read_bytes()
        assert chosen == (files / "scores" / model / f"{machine}.csv").read_bytes()
