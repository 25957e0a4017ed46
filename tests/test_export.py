"""A detector as an ONNX graph: its scores are those of the detector."""

import json

import numpy as np
import pytest
import soundfile
import torch
from detectors import asd

from asd.detector import Detector, Loaded
from asd.errors import InputError
from asd.export import Graph, export


@pytest.mark.slow
def test_the_onnx_graph_gives_the_same_scores(detectors, recordings, tmp_path, monkeypatch, capsys):
    import onnxruntime

    path = tmp_path / "fan.onnx"
    status, out, _ = asd(monkeypatch, capsys, "export", "--detector", detectors / "local/fan.zip", "--onnx", path)
    assert status == 0
    assert "ms per row with onnxruntime" in out
    detector = Detector.load(detectors / "local/fan.zip")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["sections"]) == ["00", "01"]
    assert json.loads(said["thresholds"]) == detector.description.thresholds
    waveform, rate = soundfile.read(next(iter(recordings.values())), dtype="int16")
    logmel = detector.log_mel(waveform, rate)
    windows = np.stack([logmel[:, start : start + 16] for start in (0, 4, 8, 12, 16)])
    (scores,) = session.run(None, {"logmel": windows})
    assert scores.shape == (5, 2)
    for number, section in enumerate(("00", "01")):
        np.testing.assert_allclose(scores[:, number], detector.score(waveform, rate, section).windows, rtol=1e-4)


@pytest.mark.slow
def test_a_graph_whose_scores_are_not_finite_is_not_written(detectors, tmp_path):
    detector = Detector.load(detectors / "local/fan.zip")
    with torch.no_grad():
        next(iter(detector.members[0].network.parameters())).fill_(torch.nan)
    with pytest.raises(InputError, match=r"fan\.onnx: the detector's scores of noise are not finite"):
        export(detector, tmp_path / "fan.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["oe", "spectrum"])
def test_the_graph_of_a_whole_clip_is_the_detector(detectors, recordings, model):
    detector = Detector.load(detectors / model / "fan.zip")
    waveform, rate = soundfile.read(next(iter(recordings.values())), dtype="int16")
    with torch.inference_mode():
        (scores,) = Graph(detector)(torch.from_numpy(detector.log_mel(waveform, rate))[None]).tolist()
    assert scores == pytest.approx([detector.score(waveform, rate, one).score for one in ("00", "01")], rel=1e-6)


def test_what_is_no_single_graph_is_refused(detectors, tmp_path):
    with pytest.raises(InputError, match="a fusion of spectrum, local, oe is no single graph"):
        Graph(Detector.load(detectors / "fusion/fan.zip"))
    detector = Detector.load(detectors / "local/fan.zip")
    (loaded,) = detector.members
    knn = loaded.member.model_copy(update={"detector": "knn"})
    with pytest.raises(InputError, match="cannot be a graph: found detector knn; expected gaussian or exposure"):
        Graph(Detector(detector.description, [Loaded(knn, loaded.network, loaded.fitted)]))
