"""The benchmark of detection: what it compares, that it goes on where it stopped, and its table."""

from pathlib import Path

import detection
import numpy as np
import pytest

from asd.errors import InputError

ROOT = Path(__file__).parents[1]
CONFIG = (ROOT / "config/config.yaml",)
SMALL = (
    "dataset.demo.sections=2",
    "dataset.demo.train_source=6",
    "dataset.demo.train_target=3",
    "dataset.demo.test=2",
    "dataset.demo.seconds=1",
    "logmel.mels=32",
    "backbone.weights=none",
    "train.epochs=1",
    "train.batch=9",
    "networks.local.window=16",
    "networks.local.test_hop=8",
)


def test_the_models_that_learn_are_compared_with_their_start():
    settings = detection.configured(CONFIG, ())
    assert detection.named(settings, ("level", "global", "oe", "fusion")) == [
        "level",
        "global untrained",
        "global",
        "oe",
        "fusion untrained",
        "fusion",
    ]
    with pytest.raises(InputError, match=r"--models: found 'gloabl'; expected of .*global"):
        detection.named(settings, ("gloabl",))


def test_changes_of_settings():
    settings = detection.configured(CONFIG, ("train.rate=5e-5", "machines=[fan]"))
    assert settings.networks["global"].rate == 5e-5
    assert settings.machines == ["fan"]
    with pytest.raises(InputError, match="expected key=value"):
        detection.configured(CONFIG, ("train.rate",))


def test_a_corpus_of_another_size_has_another_name():
    settings = detection.configured(CONFIG, ("dataset.demo.test=40",))
    assert [corpus.name for corpus in detection.corpora(settings, (3, 4), None, ROOT)] == [
        "demo3-test40",
        "demo4-test40",
    ]


def test_a_run_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    chosen = {"work": tmp_path, "set": SMALL, "demo_seeds": (1,), "machines": ("fan",), "threads": 1}
    detection.main(models=("spectrum", "global"), **chosen)
    before = (tmp_path / "rows.csv").read_text()
    detection.main(models=("spectrum", "global", "local", "fusion"), **chosen)
    after = (tmp_path / "rows.csv").read_text()
    assert after.startswith(before)
    models = [row["model"] for row in detection.Rows(tmp_path / "rows.csv").read()]
    both = [f"{model}{state}" for model in ("local", "fusion") for state in (" untrained", "")]
    assert models == ["spectrum", "global untrained", "global", *both]
    assert "| fusion minus spectrum |" in capsys.readouterr().out
    monkeypatch.setattr(detection.Bench, "scored", None)
    detection.main(models=("fusion",), **chosen)
    detection.main(models=("spectrum",), seeds=(2,), **chosen)  # nothing to learn, so a seed changes nothing
    assert (tmp_path / "rows.csv").read_text() == after


def test_other_settings_and_seeds_are_other_rows(tmp_path):
    def keys(name: str, seed: int = 1, *changes: str) -> dict:
        settings = detection.configured(CONFIG, changes)
        (corpus,) = detection.corpora(settings, (1,), None, tmp_path)
        return detection.Bench(settings, corpus, "fan", seed, tmp_path).key(name)

    assert keys("global") != keys("global", 2)
    assert keys("global") != keys("global", 1, "train.epochs=3")
    assert keys("global untrained") == keys("global untrained", 1, "train.epochs=3")
    assert keys("fusion") != keys("fusion", 1, "train.epochs=3")
    assert keys("spectrum") == keys("spectrum", 1, "train.epochs=3")


def test_the_differences_are_paired_by_corpus_and_machine():
    rows = [
        {"model": model, "corpus": corpus, "machine": "fan", "seed": seed} | dict.fromkeys(detection.FIGURES, auc)
        for model, corpus, seed, auc in (
            ("global untrained", "a", "0", 70.0),
            ("global untrained", "b", "0", 80.0),
            ("global", "a", "1", 71.0),
            ("global", "a", "2", 75.0),  # 73 on average
            ("global", "b", "1", 81.0),
        )
    ]
    said = detection.markdown(rows, {}).splitlines()
    assert said[-1] == f"| global minus global untrained | +2.0 ± {np.std([3, 1], ddof=1) / 2**0.5:.1f} | 2 | 2 |"
    assert "| global | 77.0 (77.0, 77.0; 77.0) | 77.0 (77.0, 77.0; 77.0) |" in said
