"""A detector as an ONNX graph: its scores are those of the detector."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from detectors import asd

from asd import audio, gaussian
from asd.detector import Detector, Loaded
from asd.errors import InputError
from asd.export import Graph, export
from asd.mel import mel_filters
from asd.sections import Section, Sections
from asd.settings import LogMel, Mvg, Spectrum

ROOT = Path(__file__).parents[1]


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


@pytest.mark.parametrize("model", ["global", "local", "oe", "spectrum"])
def test_the_graph_from_the_waveform_is_the_detector(detectors, recordings, model):
    detector, graph = (one(detectors / model / "fan.zip") for one in (Detector.load, waveform_graph))
    sounds = [soundfile.read(path, dtype="int16") for path in list(recordings.values())[:3]]
    with torch.inference_mode():
        found = graph(torch.from_numpy(np.stack([sound for sound, _ in sounds]).astype(np.float32) / 32768))
    expected = [[detector.score(*sound, section).score for section in ("00", "01")] for sound in sounds]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def waveform_graph(path):
    return Graph(Detector.load(path), "waveform").eval()


@pytest.mark.parametrize(
    ("pool", "scale"), [(["level"], "db"), (["mean", "level"], "db"), (["mean", "gwrp"], "magnitude")]
)
def test_spectra_of_the_waveform(detectors, recordings, pool, scale):
    detector = Detector.load(detectors / "spectrum/fan.zip")
    (loaded,) = detector.members
    spectrum = Spectrum(pool=pool, scale=scale, decays=[0.9] if "gwrp" in pool else [])
    rows = np.random.default_rng(0).normal(0, 1, (40, spectrum.width(64)))
    section = Section(gaussian.fit(rows, Mvg()), np.ones(1))
    sections = Sections({"00": section, "01": section}, {}, loaded.fitted.settings)
    changed = Loaded(loaded.member.model_copy(update={"spectrum": spectrum}), None, sections)
    with pytest.raises(InputError, match="which needs the waveform; take --from waveform"):
        Graph(Detector(detector.description, [changed]))
    graph = Graph(Detector(detector.description, [changed]), "waveform")
    waveform, rate = soundfile.read(next(iter(recordings.values())), dtype="int16")
    (scores,) = graph(torch.from_numpy(waveform.astype(np.float32)[None] / 32768)).tolist()
    one = Detector(detector.description, [changed]).score(waveform, rate, "00").score
    assert scores == pytest.approx([one, one], rel=1e-5)


@pytest.mark.parametrize("n_fft", [1024, 999, 256])
def test_onnxruntime_s_transform_is_ours(tmp_path, n_fft):
    """A quiet noise beside a loud tone, where single precision is wrong by half a decibel."""
    import onnxruntime

    settings = LogMel(n_fft=n_fft, hop=n_fft // 2, mels=40)
    time = np.arange(16000) / 16000
    sound = np.stack([np.sin(2 * np.pi * 440 * time), np.random.default_rng(0).normal(0, 1e-3, len(time))])
    sound = sound.astype(np.float32)

    class Power(torch.nn.Module):
        logmel, hann = settings, torch.from_numpy(audio.hann(n_fft))

        def forward(self, sound):
            return Graph._power(self, sound)

    path = tmp_path / "power.onnx"
    torch.onnx.export(
        Power().eval(), (torch.from_numpy(sound),), path, dynamo=True, verbose=False, input_names=["sound"]
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"sound": sound})
    for power, waveform in zip(found, sound, strict=True):
        got = 10 * np.log10(np.maximum(power @ mel_filters(16000, n_fft, 40), 1e-10))
        np.testing.assert_allclose(got.T, audio.log_mel(waveform, settings), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["spectrum", "local"])
def test_the_documented_program_decides_as_asd_does(detectors, recordings, tmp_path, monkeypatch, capsys, model):
    page = (ROOT / "docs/devices.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(program.splitlines()) <= 24
    (tmp_path / "score.py").write_text(program)
    zipped, graph = detectors / model / "fan.zip", tmp_path / "fan.onnx"
    assert asd(monkeypatch, capsys, "export", "--detector", zipped, "--onnx", graph, "--from", "waveform")[0] == 0
    files = list(recordings.values())[:4]
    words = [sys.executable, "-I", tmp_path / "score.py", graph, *files]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    _, out, _ = asd(monkeypatch, capsys, "score", "--detector", zipped, "--format", "jsonl", *files)
    for line, row in zip(done.stdout.splitlines(), map(json.loads, out.splitlines()), strict=True):
        file, section, score, decision = line.split()
        assert (file, section, decision) == (row["file"], row["section"], row["decision"])
        assert float(score) == pytest.approx(row["score"], rel=1e-4)


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
