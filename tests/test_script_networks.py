"""The scripts weights.py, train.py, features.py and score_exposure.py, run alone on files, one after another."""

from pathlib import Path

import h5py
import pandas as pd
import pytest
from conftest import call

from asd.errors import InputError
from asd.features import open_features
from asd.kinds import load
from asd.settings import Backbone, Compute, Decision, Equaliser, Training, Windows

CPU = Compute(device="cpu", threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache_path) -> Path:
    """A folder with the weights, a network, and one that was trained further from it with equalised clips."""
    folder = tmp_path_factory.mktemp("made")
    call("weights", settings=Backbone(), out=folder / "weights.safetensors")
    start = folder / "weights.safetensors"
    for name, equaliser in (("global", Equaliser()), ("oe", Equaliser(probability=0.5))):
        call(
            "train",
            cache=[cache_path],
            start=start,
            settings=Training(epochs=1, batch=6, equaliser=equaliser),
            compute=CPU,
            out=folder / f"{name}.safetensors",
            curve=folder / f"{name}.csv",
        )
        start = folder / f"{name}.safetensors"
    return folder


def test_training_writes_a_network_and_its_curve(made):
    assert load(made / "global.safetensors").description.section_labels == ("00", "01")
    assert len(load(made / "oe.safetensors").description.section_labels) == 4
    curve = pd.read_csv(made / "oe.csv")
    assert list(curve["epoch"]) == [1]
    assert curve["loss"].between(0, 100).all()


def test_features_of_whole_clips(made, cache_path, tmp_path):
    out = tmp_path / "features.h5"
    call("features", cache=cache_path, network=made / "global.safetensors", settings=Windows(), compute=CPU, out=out)
    with open_features(out) as features:
        assert features.values.shape == (len(features.clips), 2096)


def test_doubt_is_scored_and_decided(made, cache_path, tmp_path):
    out = tmp_path / "scores.csv"
    call(
        "score_exposure",
        cache=cache_path,
        network=made / "oe.safetensors",
        settings=Windows(),
        decision=Decision(scope="machine"),
        compute=CPU,
        out=out,
    )
    scores = pd.read_csv(out, dtype={"section": str})
    assert list(scores.columns) == [
        "file",
        "section",
        "split",
        "part",
        "domain",
        "label",
        "recording",
        "score",
        "decision",
        "threshold",
    ]
    anomalous = scores["score"][scores["decision"] == 1]
    assert anomalous.empty or anomalous.min() > scores["score"][scores["decision"] == 0].max()


def test_a_machine_without_a_gpu_is_told_so(made, cache_path, tmp_path):
    arguments = {"cache": cache_path, "network": made / "oe.safetensors", "settings": Windows()}
    with pytest.raises(InputError, match="no CUDA device"):
        call("features", **arguments, compute=Compute(device="cuda:99"), out=tmp_path / "features.h5")
    assert not (tmp_path / "features.h5").exists()


def test_a_corrupted_cache_is_not_trained_on(made, cache_path, tmp_path):
    broken = tmp_path / "broken.h5"
    with h5py.File(cache_path) as file:
        first_clip = file["logmel"].id.get_chunk_info(0)
    content = bytearray(cache_path.read_bytes())
    content[first_clip.byte_offset + first_clip.size // 2] ^= 1
    broken.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.h5"):
        call(
            "train",
            cache=[broken],
            start=made / "weights.safetensors",
            settings=Training(epochs=1, batch=6, equaliser=Equaliser(probability=0.5)),
            compute=CPU,
            out=tmp_path / "network.safetensors",
            curve=tmp_path / "curve.csv",
        )
    assert not (tmp_path / "network.safetensors").exists()
