import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asd.cache import open_cache
from asd.corpus import scan, write_manifest
from asd.settings import LogMel, flags

SCRIPT = Path(__file__).parents[1] / "workflow/scripts/logmel.py"
SMALL = LogMel(n_fft=256, hop=128, mels=20)
TRAIN = "fan/train/section_00_source_train_normal_0000.wav"
TEST = "fan/test/section_00_source_test_normal_0000.wav"


@pytest.fixture
def logmel(monkeypatch):
    def run(manifest: Path, out: Path, settings: LogMel = SMALL) -> None:
        words = ["--manifest", str(manifest), *shlex.split(flags(settings)), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run


@pytest.fixture
def manifest(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in (TRAIN, TEST):
        (tmp_path / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / name, rng.integers(-3000, 3000, 2000).astype(np.int16), 16000, subtype="PCM_16")
    write_manifest(tmp_path / "fan/manifest.csv", scan(tmp_path, "fan"))
    return tmp_path / "fan/manifest.csv"


def test_logmel(logmel, manifest, tmp_path):
    logmel(manifest, tmp_path / "out/fan.h5")
    with open_cache(tmp_path / "out/fan.h5") as cache:
        assert cache.settings == SMALL
        assert cache.read_logmel([0, 1]).shape == (2, 20, 16)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda wav: wav.write_bytes(wav.read_bytes()[:-10]),
            "truncated: found 1995 samples, the header promises 2000",
        ),
        (lambda wav: wav.write_bytes(b""), "an empty file"),
        (lambda wav: soundfile.write(wav, np.zeros(0), 16000), "no samples"),
        (lambda wav: soundfile.write(wav, np.zeros((2000, 2)), 16000), "channels: 2"),
        (lambda wav: soundfile.write(wav, np.zeros(2000), 8000), "8000 Hz; expected a wav, 16-bit PCM, mono, 16000 Hz"),
        (lambda wav: soundfile.write(wav, np.zeros(2000), 16000, "FLOAT"), "FLOAT"),
        (lambda wav: wav.write_text("sound"), "not a readable wav"),
        (lambda wav: wav.unlink(), "not a readable wav"),
        (lambda wav: soundfile.write(wav, np.zeros(1000), 16000), "different length"),
    ],
)
def test_a_bad_recording(logmel, manifest, tmp_path, capsys, spoil, expected):
    spoil(tmp_path / TEST)
    with pytest.raises(SystemExit) as caught:
        logmel(manifest, tmp_path / "out/fan.h5")
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert expected in message
    assert Path(TEST).name in message
    assert not list(tmp_path.glob("out/*"))
    assert not list(tmp_path.glob("out/.*"))


def test_bad_settings(logmel, manifest, tmp_path, capsys):
    with pytest.raises(SystemExit):
        logmel(manifest, tmp_path / "fan.h5", LogMel(n_fft=256, hop=128, mels=224))
    assert "logmel.mels: 224 bins are too many for n_fft 256" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.h5"))


def test_no_manifest(logmel, tmp_path, capsys):
    with pytest.raises(SystemExit):
        logmel(tmp_path / "gone.csv", tmp_path / "fan.h5")
    assert f"{tmp_path}/gone.csv: not a readable manifest" in capsys.readouterr().err


def test_help_needs_no_torch():
    code = (
        f"import runpy, sys; sys.argv = ['logmel.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "finally: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--n-fft" in done.stdout
    assert "log-mel" in done.stdout


def test_real_recordings(logmel, tmp_path):
    if not (real := os.environ.get("ASD_REAL_DATA")):
        pytest.skip("ASD_REAL_DATA does not name a folder of real recordings of 2023")
    write_manifest(tmp_path / "manifest.csv", scan(Path(real), "ToyCar"))
    logmel(tmp_path / "manifest.csv", tmp_path / "ToyCar.h5", LogMel())
    with open_cache(tmp_path / "ToyCar.h5") as cache:
        assert (cache.samples, cache.frames) == (192000, 376)  # 12 s, not 10
        assert np.isfinite(cache.read_logmel(range(len(cache.clips)))).all()
