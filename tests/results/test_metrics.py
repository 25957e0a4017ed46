"""Figures against scikit-learn, scipy and hand values; intervals against simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hmean
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from asd.results.metrics import (
    ALL,
    EPSILON,
    FIGURES,
    Figures,
    arithmetic_mean,
    compare,
    generator,
    halved,
    harmonic_mean,
    interval,
    joined,
    lacking,
    machine_figures,
    mean_figures,
    resampled,
    section_figures,
    sections,
    with_totals,
)


def clips(counts=(5, 5, 5, 5), seed=0, section="00", levels=None):
    """Clips of one section: counts of (source normal, source anomaly, target normal, target anomaly)."""
    rng = np.random.default_rng(seed)
    kinds = [("source", "normal"), ("source", "anomaly"), ("target", "normal"), ("target", "anomaly")]
    rows = [(*kind, number) for kind, count in zip(kinds, counts, strict=True) for number in range(count)]
    frame = pd.DataFrame(rows, columns=["domain", "label", "number"])
    score = rng.normal(size=len(frame)) + (frame["label"] == "anomaly")
    frame["score"] = score if levels is None else np.floor(score * levels)
    frame["file"] = [f"{row.domain}_{row.label}_{row.number:04d}.wav" for row in frame.itertuples()]
    return frame.assign(
        section=section, split="test", part="development", decision=(frame["score"] > 0.5).astype(int)
    ).sample(frac=1, random_state=seed, ignore_index=True)


def figure(values, metric, domain):
    return values[ALL.index((metric, domain))]


def by_sklearn(frame, normal_domains, anomaly_domains, max_fpr=None):
    normal = frame[(frame["label"] == "normal") & frame["domain"].isin(normal_domains)]
    anomaly = frame[(frame["label"] == "anomaly") & frame["domain"].isin(anomaly_domains)]
    both = pd.concat([normal, anomaly])
    return roc_auc_score(both["label"] == "anomaly", both["score"], max_fpr=max_fpr)


BOTH = ["source", "target"]

sizes = st.tuples(*[st.integers(1, 12)] * 4)


@settings(deadline=None, max_examples=60)
@given(counts=sizes, seed=st.integers(0, 10**6), levels=st.sampled_from([None, 0.5, 2]), max_fpr=st.floats(0.02, 0.9))
def test_figures_equal_scikit_learn(counts, seed, levels, max_fpr):
    frame = clips(counts, seed, levels=levels)
    values = section_figures(frame, max_fpr=max_fpr)[:, 0]
    expected = {
        ("auc", "source"): by_sklearn(frame, ["source"], BOTH),
        ("auc", "target"): by_sklearn(frame, ["target"], BOTH),
        ("auc", "all"): by_sklearn(frame, BOTH, BOTH),
        ("pauc", "all"): by_sklearn(frame, BOTH, BOTH, max_fpr),
        ("pauc_both", "source"): by_sklearn(frame, ["source"], BOTH, max_fpr),
        ("pauc_both", "target"): by_sklearn(frame, ["target"], BOTH, max_fpr),
        ("pauc_own", "source"): by_sklearn(frame, ["source"], ["source"], max_fpr),
        ("pauc_own", "target"): by_sklearn(frame, ["target"], ["target"], max_fpr),
    }
    for key, value in expected.items():
        assert figure(values, *key) == pytest.approx(value, abs=1e-12), key
    official = [expected["auc", "source"], expected["auc", "target"], expected["pauc", "all"]]
    assert figure(values, "omega", "all") == pytest.approx(hmean(np.maximum(official, EPSILON)), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(counts=sizes, seed=st.integers(0, 10**6))
def test_decisions_equal_scikit_learn(counts, seed):
    frame = clips(counts, seed)
    values = section_figures(frame)[:, 0]
    for domain in BOTH:
        here = frame[frame["domain"] == domain]
        truth, decided = here["label"] == "anomaly", here["decision"]
        for metric, oracle in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            expected = oracle(truth, decided, zero_division=0)
            assert figure(values, metric, domain) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 1]))
def test_weights_equal_repeated_clips(seed, levels):
    frame = clips((6, 5, 4, 7), seed, levels=levels)
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, len(frame)))
    weights[:, frame.groupby(["domain", "label"]).head(1).index] = 1  # at least one clip of each kind
    values = section_figures(frame, weights)
    for row, counts in enumerate(weights):
        repeated = frame.loc[frame.index.repeat(counts)]
        np.testing.assert_allclose(values[:, row], section_figures(repeated)[:, 0], rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 1]))
def test_only_the_ranks_matter(seed, levels):
    frame = clips(seed=seed, levels=levels)
    values = section_figures(frame)
    monotone = frame.assign(score=np.exp(frame["score"] / 3) - 7)
    np.testing.assert_allclose(section_figures(monotone), values, atol=1e-12)
    shuffled = frame.sample(frac=1, random_state=seed)
    np.testing.assert_allclose(section_figures(shuffled), values, atol=1e-12)
    reversed_scores = section_figures(frame.assign(score=-frame["score"]))
    for domain in (*BOTH, "all"):
        assert figure(reversed_scores, "auc", domain) == pytest.approx(1 - figure(values, "auc", domain), abs=1e-12)


def test_hand_values():
    frame = pd.DataFrame(
        {
            "domain": ["source"] * 2 + ["target"] * 2 + ["source", "target"],
            "label": ["normal"] * 4 + ["anomaly"] * 2,
            "score": [1.0, 2.0, 3.0, 4.0, 2.0, 5.0],
            "decision": [0, 1, 1, 1, 1, 1],
        }
    )
    values = section_figures(frame)[:, 0]
    assert figure(values, "auc", "source") == (1 + 0.5 + 1 + 1) / 4  # the tie counts half
    assert figure(values, "auc", "target") == 2 / 4
    assert figure(values, "auc", "all") == (1 + 0.5 + 4) / 8
    # Of a quarter of the normal clips below the limit of 0.1 nothing but the anomaly at 5 is found first.
    assert figure(values, "pauc", "all") == pytest.approx(0.5 * (1 + (0.05 - 0.005) / (0.1 - 0.005)), abs=1e-15)
    assert figure(values, "precision", "source") == 1 / 2
    assert figure(values, "recall", "target") == 1
    assert figure(values, "precision", "target") == 1 / 3


def test_all_equal_scores_are_chance_and_perfect_ones_one():
    frame = clips()
    chance = section_figures(frame.assign(score=0.0))[:, 0]
    perfect = section_figures(frame.assign(score=frame["label"] == "anomaly"))[:, 0]
    for metric, domain in FIGURES[:9]:
        assert figure(chance, metric, domain) == pytest.approx(0.5, abs=1e-12)
        assert figure(perfect, metric, domain) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "undefined", "missing"),
    [
        ((5, 0, 5, 0), set(FIGURES), ["anomalous clips"]),
        (
            (5, 5, 0, 5),
            {key for key in FIGURES if key[1] == "target"} | {("omega", "all")},
            ["normal clips of the target domain"],
        ),
        (
            (5, 5, 5, 0),
            {("pauc_own", "target"), ("precision", "target"), ("recall", "target"), ("f1", "target")},
            [],
        ),
        (
            (0, 5, 0, 5),
            set(FIGURES),
            ["normal clips of the source domain", "normal clips of the target domain"],
        ),
    ],
)
def test_what_cannot_be_computed_is_nan(counts, undefined, missing):
    frame = clips(counts)
    values = section_figures(frame)[:, 0]
    assert {key for key in FIGURES if np.isnan(figure(values, *key))} == undefined
    assert lacking(frame) == missing


def test_without_domains_only_all_is_defined():
    values = section_figures(clips().assign(domain=""))[:, 0]
    defined = {key for key in FIGURES if not np.isnan(figure(values, *key))}
    assert defined == {("auc", "all"), ("pauc", "all")}


def test_without_decisions_theirs_are_nan():
    values = section_figures(clips().assign(decision=-1))[:, 0]
    assert all(np.isnan(figure(values, "f1", domain)) for domain in BOTH)
    assert figure(values, "auc", "all") > 0


def test_unlabelled_clips_do_not_count():
    frame = clips()
    more = pd.concat([frame, frame.assign(label="", score=100.0, file="x" + frame["file"])], ignore_index=True)
    np.testing.assert_array_equal(section_figures(more), section_figures(frame))
    assert len(sections(more)["00"]) == len(frame)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_means(values):
    assert harmonic_mean(np.array(values)) == pytest.approx(hmean(np.maximum(values, EPSILON)), rel=1e-12)
    assert harmonic_mean(np.array([*values, np.nan])) == pytest.approx(harmonic_mean(np.array(values)), rel=1e-12)
    assert arithmetic_mean(np.array([*values, np.nan])) == pytest.approx(np.mean(values), rel=1e-12)


def test_means_of_nothing_are_nan():
    assert np.isnan(harmonic_mean(np.array([np.nan])))
    assert np.isnan(arithmetic_mean(np.array([np.nan])))
    assert np.isnan(mean_figures(Figures((), np.empty((0, len(FIGURES), 1))))).all()


def test_totals_need_both_domains():
    values = with_totals(section_figures(clips((5, 5, 0, 5))))
    assert np.isnan(values[len(FIGURES) :]).all()
    values = with_totals(section_figures(clips()))[:, 0]
    pair = [figure(values, "auc", "source"), figure(values, "auc", "target")]
    assert figure(values, "auc", "total") == pytest.approx(hmean(pair), rel=1e-12)
    arithmetic = with_totals(section_figures(clips()), "arithmetic")[:, 0]
    assert figure(arithmetic, "auc", "total") == pytest.approx(np.mean(pair), rel=1e-12)


def test_means_over_sections_and_machines():
    one = pd.concat([clips(seed=1, section="00"), clips(seed=2, section="01")])
    two = clips(seed=3, section="00")
    figures = joined([machine_figures("fan", one), machine_figures("valve", two)])
    assert figures.sections == (("fan", "00"), ("fan", "01"), ("valve", "00"))
    auc = figures.values[:, FIGURES.index(("auc", "source")), 0]
    assert figure(mean_figures(figures), "auc", "source")[0] == pytest.approx(hmean(auc))
    assert figure(mean_figures(figures, "arithmetic"), "auc", "source")[0] == pytest.approx(auc.mean())
    machines = (hmean(auc[:2]) + auc[2]) / 2
    assert figure(mean_figures(figures, "machines"), "auc", "source")[0] == pytest.approx(machines)
    official = figures.values[
        :, [FIGURES.index(key) for key in [("auc", "source"), ("auc", "target"), ("pauc", "all")]]
    ]
    assert figure(mean_figures(figures), "omega", "all")[0] == pytest.approx(hmean(official.ravel()))


def test_resamples_draw_within_each_kind():
    frame = clips((3, 4, 5, 1))
    weights = resampled(frame, 50, np.random.default_rng(0))
    assert weights.shape == (50, len(frame))
    assert len(np.unique(weights, axis=0)) > 40
    for indices in frame.groupby(["domain", "label"]).indices.values():
        assert (weights[:, indices].sum(axis=1) == max(len(indices) - 1, 1)).all()


def test_the_error_of_a_mean_is_unbiased():
    """The AUC against one normal clip in the midst is a mean over the anomalies: its error is known."""
    frame = clips((1, 12, 0, 0), seed=3)
    frame.loc[frame["label"] == "normal", "score"] = frame.loc[frame["label"] == "anomaly", "score"].median() + 0.01
    hits = frame.loc[frame["label"] == "anomaly", "score"] > frame.loc[frame["label"] == "normal", "score"].item()
    values = section_figures(frame, resampled(frame, 20000, np.random.default_rng(0)))
    expected = hits.std(ddof=1) / np.sqrt(len(hits))
    assert figure(values, "auc", "source").std() == pytest.approx(expected, rel=0.03)


def test_resamples_depend_on_the_seed_and_the_clips_names_only():
    frame = clips()
    first = machine_figures("fan", frame, resamples=20, seed=1).values
    np.testing.assert_array_equal(machine_figures("fan", frame[::-1], resamples=20, seed=1).values, first)
    more = pd.concat([clips(seed=9, section="01"), frame])
    np.testing.assert_array_equal(machine_figures("fan", more, resamples=20, seed=1).values[:1], first)
    assert (machine_figures("fan", frame, resamples=20, seed=2).values[..., 1:] != first[..., 1:]).any()
    assert (machine_figures("valve", frame, resamples=20, seed=1).values[..., 1:] != first[..., 1:]).any()
    assert generator(1, "a", "b").random() == generator(1, "a", "b").random()


def test_halves_are_halves_of_each_kind():
    frame = clips((4, 5, 6, 1))
    half = halved(frame, 30, np.random.default_rng(0))
    assert set(np.unique(half)) == {0, 1}
    for (domain, label), indices in frame.groupby(["domain", "label"]).indices.items():
        sizes = half[:, indices].sum(axis=1)
        assert set(sizes) == {len(indices) // 2, -(-len(indices) // 2)}, (domain, label)
    assert 0.2 < half.mean() < 0.8
    assert len(np.unique(half, axis=0)) > 20


def test_parts_of_a_recording_are_drawn_and_halved_together():
    # Two microphones, one of each domain; three recordings of the source alone, one of them with a single part.
    of_both = [(domain, label, f"{label}{number}") for domain in ("source", "target") for label in ("normal", "anomaly")
               for number in range(4) for _ in range(2)]  # fmt: skip
    alone = [("source", "normal", name) for name in ("x", "x", "y", "y", "")]
    frame = pd.DataFrame([*of_both, *alone], columns=["domain", "label", "recording"])
    frame = frame.sample(frac=1, random_state=0, ignore_index=True)
    weights = resampled(frame, 50, np.random.default_rng(0))
    half = halved(frame, 50, np.random.default_rng(0))
    for name in set(frame["recording"]) - {""}:
        indices = np.flatnonzero(frame["recording"] == name)
        assert (weights[:, indices] == weights[:, indices[:1]]).all(), name
        assert (half[:, indices] == half[:, indices[:1]]).all(), name
    first = frame[frame["recording"] != ""].drop_duplicates("recording").index
    normal, anomaly = (first[frame["recording"][first].str.startswith(label)] for label in ("normal", "anomaly"))
    single = [*first[frame["recording"][first].isin(["x", "y"])], *frame.index[frame["recording"] == ""]]
    for indices, drawn, kept in ((normal, 3, {2}), (anomaly, 3, {2}), (single, 2, {1, 2})):
        assert (weights[:, indices].sum(axis=1) == drawn).all()
        assert set(half[:, indices].sum(axis=1)) == kept
    assert weights.max() > 1


def test_parts_that_are_copies_have_the_interval_of_their_recordings():
    frame = clips((12, 12, 12, 12))
    parts = pd.concat([frame.assign(recording=frame["file"], file=f"{part}_" + frame["file"]) for part in range(3)])
    (once,) = machine_figures("fan", frame, resamples=500).values
    (three,) = machine_figures("fan", parts, resamples=500).values
    (apart,) = machine_figures("fan", parts.assign(recording=""), resamples=500).values
    auc = FIGURES.index(("auc", "all"))
    assert three[auc, 0] == pytest.approx(once[auc, 0])
    assert three[auc].std() == pytest.approx(once[auc].std(), rel=0.15)
    assert apart[auc].std() < 0.75 * once[auc].std()


def many_sections(rng, kind, shift, repeats):
    """Clips of `repeats` draws of one section from normal distributions, all with the same names."""
    frame = clips((kind,) * 4).sort_values("file", ignore_index=True)
    anomaly = (frame["label"] == "anomaly").to_numpy()
    target = (frame["domain"] == "target").to_numpy()
    for _ in range(repeats):
        yield frame.assign(score=rng.normal(size=len(frame)) + shift * anomaly + 0.3 * target)


def truth(shift):
    """The figures of a section with very many clips."""
    (frame,) = many_sections(np.random.default_rng(0), 30000, shift, 1)
    return section_figures(frame)[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shift"), [(10, 1.0), (50, 1.0), (50, 2.0)])
def test_intervals_cover(kind, shift):
    """95 % intervals hold the true value in about 95 % of simulated corpora (with 10 clips, of the AUC alone)."""
    rng = np.random.default_rng(5)
    expected, repeats, inside = truth(shift), 300, []
    for frame in many_sections(rng, kind, shift, repeats):
        low, high = interval(machine_figures("fan", frame, resamples=200, seed=int(rng.integers(1e9))).values[0])
        inside.append((low <= expected) & (expected <= high))
    covered = np.mean(inside, axis=0)
    sure = [("auc", "source"), ("auc", "target"), ("auc", "all"), ("omega", "all")]
    for key in [*sure, ("pauc", "all")] if kind == 50 else sure:
        assert 0.91 < figure(covered, *key) < 0.985, key


def test_intervals_of_means_and_their_ends():
    frames = [clips((20,) * 4, seed=seed, section=f"{seed:02d}") for seed in range(3)]
    values = mean_figures(machine_figures("fan", pd.concat(frames), resamples=300))
    low, high = interval(values)
    narrow = interval(values, level=0.5)
    one = interval(machine_figures("fan", frames[0], resamples=300).values[0])
    for key in FIGURES[:9]:
        assert figure(low, *key) < figure(narrow[0], *key) < figure(values[:, 0], *key)
        assert figure(values[:, 0], *key) < figure(narrow[1], *key) < figure(high, *key)
        assert figure(low, *key) > 0
        assert figure(high, *key) < 1
    assert figure(high - low, "auc", "all") < figure(one[1] - one[0], "auc", "all")


def test_no_interval_where_the_bootstrap_knows_nothing():
    frame = clips()
    perfect = machine_figures("fan", frame.assign(score=frame["label"] == "anomaly"), resamples=50)
    low, high = interval(with_totals(perfect.values[0]))
    assert all(np.isnan(figure(low, *key)) and np.isnan(figure(high, *key)) for key in FIGURES[:9])
    assert np.isnan(interval(machine_figures("fan", frame).values)).all()


def test_comparison_is_paired():
    """Two nearly equal systems differ by far less than either's interval is wide."""
    frame = clips((30,) * 4, seed=2)
    noise = np.random.default_rng(0).normal(size=len(frame))
    first = machine_figures("fan", frame, resamples=300).values[0]
    second = machine_figures("fan", frame.assign(score=frame["score"] + 0.1 * noise), resamples=300).values[0]
    difference, low, high, probability = compare(first, second)
    assert figure(difference, "auc", "all") == pytest.approx(figure(first - second, "auc", "all")[0])
    own_low, own_high = interval(first)
    assert figure(high - low, "auc", "all") < 0.3 * figure(own_high - own_low, "auc", "all")
    reverse = compare(second, first)
    np.testing.assert_allclose(reverse[0], -difference)
    np.testing.assert_allclose(reverse[3], 1 - probability)
    same = compare(first, first)
    assert [figure(one, "auc", "all") for one in same] == [0, 0, 0, 0.5]
    assert np.isnan(compare(first[:, :1], second[:, :1])[3]).all()


def test_a_better_system_is_better_with_a_probability_that_means_something():
    """Where both systems are equally good, 'better with probability above 0.95' is said in one case of twenty."""
    rng = np.random.default_rng(1)
    said, repeats = [], 300
    for one, other in zip(*(many_sections(rng, 15, 1.0, repeats) for _ in range(2)), strict=True):
        seed = int(rng.integers(1e9))
        pair = [machine_figures("fan", frame, resamples=150, seed=seed).values[0] for frame in (one, other)]
        said.append(compare(*pair)[3] > 0.95)
    share = np.mean(said, axis=0)
    assert 0.015 < figure(share, "auc", "all") < 0.095
    assert 0.015 < figure(share, "omega", "all") < 0.095
