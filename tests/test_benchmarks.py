"""The benchmark's own parts: that the plain recipes do the same work, and that the limits count right."""

import bench
import gpu
import growth
import jobs
import limits
import numpy as np
import pandas as pd
import plain
import pytest
import report
import soundfile
import torch

from asd import audio, gaussian, knn, waveform
from asd.losses import make_loss
from asd.results import metrics
from asd.settings import CosineLoss, Knn, LogMel, Mvg


def test_the_plain_log_mel_is_ours():
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    ours = audio.log_mel(sound, LogMel())
    np.testing.assert_allclose(plain.log_mel(sound), ours, rtol=0, atol=1e-3)


def test_the_plain_figures_are_ours():
    rng = np.random.default_rng(0)
    target, anomaly = rng.random(80) < 0.5, rng.random(80) < 0.5
    score = rng.normal(size=80) + anomaly
    clips = pd.DataFrame({"score": score, "decision": score > 1, "domain": np.where(target, "target", "source")})
    clips["label"] = np.where(anomaly, "anomaly", "normal")
    found = plain.section_figures(score, score > 1, anomaly, target)
    np.testing.assert_allclose(found, metrics.section_figures(clips)[:, 0], rtol=1e-12)
    found = plain.bootstrap([(score, score > 1, anomaly, target)] * 2, 3)
    assert found.shape == (2, len(metrics.FIGURES), 4)
    np.testing.assert_array_equal(found[0, :, 0], found[1, :, 0])


def test_the_plain_gaussian_is_ours():
    rows = np.random.default_rng(0).normal(size=(50, 30))
    found = gaussian.fit(rows[:40], Mvg()).distances(rows[40:])[:, 0]
    np.testing.assert_allclose(plain.distances(plain.fit(rows[:40]), rows[40:]), found, rtol=1e-6)


def test_the_plain_embeddings_of_recordings_are_ours(tmp_path):
    rng, wavs = np.random.default_rng(0), [tmp_path / f"{number}.wav" for number in range(6)]
    for wav in wavs:
        soundfile.write(wav, 0.1 * rng.standard_normal(80000), 16000, subtype="PCM_16")
    network = waveform.Network(waveform.Description("fan", 16000, 80000, (1024,), ("a", "b"), "")).eval()
    clips = plain.make_wavs(wavs, np.arange(6) % 2)
    rows = plain.embed_wavs(network, clips)
    with torch.no_grad():
        ours = network.vectors(torch.from_numpy(np.stack([soundfile.read(wav, dtype="int16")[0] for wav in wavs])))
    np.testing.assert_allclose(rows, ours.numpy(), rtol=0, atol=1e-5)
    fitted = knn.fit(ours.numpy()[:4], Knn(metric="cosine"), np.zeros(4, np.int64), rng)
    np.testing.assert_allclose(plain.nearest(rows[:4], rows[4:]), fitted.distances(ours.numpy()[4:])[:, 0], atol=1e-6)
    steps = np.array(list(plain.train_wavs(network, make_loss(network.widths[0], 2, CosineLoss()), clips, 3)))
    assert steps.shape == (2, 2)
    assert np.isfinite(steps).all()
    assert (steps[:, 1] > 0).all()


def test_the_weights_of_the_network_of_the_waveform_are_as_many_as_counted_elsewhere():
    """2.50 million without those of the loss, at 10 s and one resolution."""
    assert sum(weights for _, _, weights in limits.waveform_layers(160000, 1)) == pytest.approx(2.5e6, rel=0.01)


@pytest.mark.parametrize("kind", ["global", "local", "oe"])
def test_the_plain_clips(kind):
    rng = np.random.default_rng(0)
    logmel = rng.normal(-40, 10, (20, 224, 80)).astype(np.float32)
    waveform = rng.integers(-3000, 3000, (20, 79 * 512)).astype(np.int16)
    labels = np.arange(20)
    clips = plain.make_dataset(logmel, waveform, labels % 6, labels % 4, kind, 6, -40, 10)
    seen = [clips[clip] for clip in range(20)]
    assert {tuple(x.shape) for x, _, _ in seen} == {(3, 224, 64 if kind == "local" else 80)}
    assert all(torch.equal(x[0], x[2]) for x, _, _ in seen)
    assert any((x == 0).all(2).any() for x, _, _ in seen)  # a masked mel bin
    assert [attribute for _, _, attribute in seen] == (labels % 4).tolist()
    equalised = [section != clip % 6 for clip, (_, section, _) in enumerate(seen)]
    assert any(equalised) == (kind == "oe")
    assert not all(equalised)


def test_the_operations_of_b1_are_the_published():
    """0.70 billion multiplications and additions at 240 × 240 (Tan & Le 2019, table 2)."""
    operations = sum(one for one, _, _ in limits.layers(240, 1)) * 240 / 224
    assert operations / 2 == pytest.approx(0.70e9, rel=0.06)


def test_a_limit_is_what_binds():
    rate = {"float32": 1e12, "float64": 1e12, "memory": 1e30, "read": 1e30, "write": 1e30}
    operations = sum(one for one, _, _ in limits.layers(64, 5))
    assert limits.network(rate, 64, 5, passes=3) == pytest.approx(3 * operations / 1e12)
    slow = rate | {"memory": 1.0}
    values = sum(values + weights for _, values, weights in limits.layers(64, 5))
    assert limits.network(slow, 64, 5) == pytest.approx(4 * values)
    assert limits.network(slow | {"bfloat16": 1e30}, 64, 5, kind="bfloat16") == pytest.approx(2 * values)
    assert limits.log_mel(rate | {"write": 1e6, "read": 1e6}, 10) == pytest.approx(10 * (640000 + 224 * 313 * 4) / 1e6)


def test_the_hours_of_the_paper():
    names = ["train CNN-GLOBAL", "train CNN-LOCAL", "train CNN-OE", "features of whole clips"]
    rows = {name: {"ours": 1000.0} for name in [*names, "features at hop 8", "features at hop 1"]}
    found = gpu.hours(rows)
    assert found["training"] == pytest.approx(7 * 6000 * (50 + 100 + 20) / 1000 / 3600)
    assert found["features local"] == found["features global"] == pytest.approx(7 * 7200 / 1000 / 3600)
    assert gpu.paper().networks["local"].window == 64


def test_a_table_of_every_kind_of_row(tmp_path):
    side = {"seconds": 2.0, "shortest": 1.0, "longest": 30.0, "own_mb": 100.0, "measured_share": 0.1}
    row = {"title": "a", "threads": 1, "target": 3.0, "memory_target": 0.25, "plain": side, "ours": side, "ratio": 1.0}
    rows = {"a": row | {"of_limit": 0.5}, "b": {"title": "b", "target_seconds": 4.0, "ours": side, "of_limit": 0.9}}
    rate = {"float32": 1e11, "float64": 1e11, "memory": 1e10, "write": 1e9}
    results = {"date": "today", "machine": "here", "versions": {"asd": "0", "torch": "1"}, "rates": {"2": rate}}
    (tmp_path / "speed.md").write_text(f"# Speed\n{report.BEGIN}old\n{report.END}Kept.\n")
    page = report.write(results | {"stages": rows}, tmp_path)
    assert (tmp_path / "speed.md").read_text() == f"# Speed\n{report.BEGIN}{page}{report.END}Kept.\n"
    assert "| a | ~2.00 s (1.00–30) | ~2.00 s (1.00–30) | 1.0× | 3× ✗, 25% of the memory ✗ | 50% | 100 → 100 |" in page
    assert "| b |  | ~2.00 s (1.00–30) |  | 4 s ✓ | 90% |  |" in page
    assert (tmp_path / "speed.svg").stat().st_size > 1000


@pytest.mark.parametrize(("stage", "size"), [(stage, 64) for stage in growth.STAGES if stage != "snakemake -n"])
def test_every_stage_of_the_growth_runs(stage, size, tmp_path):
    growth.STAGES[stage][0](size, tmp_path)()


def test_the_exponent_of_growth():
    points = [{"size": size, "seconds": size**2 / 100, "mb": 5.0} for size in (10, 100, 1000)]
    assert growth.exponent(points, "seconds") == pytest.approx(2)
    assert growth.exponent(points, "mb") == 0
    assert "| x | 10 · 100 · 1000 | 1 · 100 · 1e+04 | 2.00 | 5 · 5 · 5 |" in growth.table({"x": points})


def test_every_stage_has_both_jobs():
    assert all(hasattr(jobs, f"{side}_{stage.job}") for stage in bench.STAGES.values() for side in ("plain", "our"))
