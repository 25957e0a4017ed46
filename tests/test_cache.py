import json
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from asd import soundfiles
from asd.cache import LAYOUT, common_length, open_cache, write_cache
from asd.corpus import COLUMNS, read_manifest, scan, write_manifest
from asd.errors import InputError
from asd.hdf5 import read_clips, write_clips
from asd.settings import LogMel

RATE = 16000
SMALL = LogMel(n_fft=256, hop=128, mels=20)
NAMES = [
    "train/section_00_source_train_normal_0000_vel_0.10.wav",
    "train/section_00_target_train_normal_0001_vel_9.wav",
    "test/section_00_0000.wav",
]


def corpus(folder: Path, lengths: tuple[int, ...] = (2000, 2000, 2000)) -> Path:
    """Three clips of noise; returns the manifest."""
    rng = np.random.default_rng(0)
    for name, length in zip(NAMES, lengths, strict=True):
        path = folder / "fan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.integers(-3000, 3000, length).astype(np.int16), RATE, subtype="PCM_16")
    manifest = folder / "fan/manifest.csv"
    write_manifest(manifest, scan(folder, "fan"))
    return manifest


def cached(folder: Path, settings: LogMel = SMALL, **options) -> Path:
    path = folder / "cache/fan.h5"
    write_cache(path, corpus(folder, **options), settings)
    return path


def sound(folder: Path, name: str) -> np.ndarray:
    return soundfile.read(folder / "fan" / name, dtype="int16")[0]


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.h5")]


# --- writing and reading ------------------------------------------------------------------------------------


def test_a_cache_holds_what_the_recordings_say(tmp_path):
    path = cached(tmp_path)
    with open_cache(path) as cache:
        assert cache.settings == SMALL
        assert (cache.frames, cache.samples) == (16, 2000)
        pd.testing.assert_frame_equal(cache.clips, read_manifest(tmp_path / "fan/manifest.csv"), check_dtype=False)
        logmel, waveform = cache.read_logmel([0, 1, 2]), cache.read_waveform([0, 1, 2])
    assert (logmel.shape, logmel.dtype) == ((3, 20, 16), np.float32)
    assert (waveform.shape, waveform.dtype) == ((3, 2000), np.int16)
    for i, name in enumerate(NAMES):
        clip = sound(tmp_path, name)
        np.testing.assert_array_equal(waveform[i], clip)
        power = librosa.feature.melspectrogram(
            y=clip / 32768, sr=RATE, n_fft=256, hop_length=128, n_mels=20, pad_mode="constant"
        )
        np.testing.assert_allclose(logmel[i], 10 * np.log10(np.maximum(power, 1e-10)), rtol=0, atol=1e-3)


def test_the_documented_layout(tmp_path):
    with h5py.File(cached(tmp_path)) as file:
        assert set(file) == {"logmel", "waveform", "clips"}
        assert (file["logmel"].dtype, file["logmel"].chunks) == (np.float32, (1, 20, 16))
        assert (file["waveform"].dtype, file["waveform"].chunks) == (np.int16, (1, 2000))
        assert list(file["clips"]) == sorted(COLUMNS)
        assert all(h5py.check_string_dtype(file["clips"][column].dtype).encoding == "utf-8" for column in COLUMNS)
        assert all(dataset.fletcher32 for dataset in [file["logmel"], file["waveform"], *file["clips"].values()])
        assert file.attrs["layout"] == LAYOUT
        assert json.loads(file.attrs["settings"]) == SMALL.model_dump()
        assert {"numpy", "h5py"} <= set(json.loads(file.attrs["versions"]))


def test_rows_come_in_the_order_asked_for(tmp_path):
    with open_cache(cached(tmp_path)) as cache:
        everything = cache.read_waveform(np.arange(3))
        np.testing.assert_array_equal(cache.read_waveform([2, 0, 2]), everything[[2, 0, 2]])
        np.testing.assert_array_equal(cache.read_logmel(np.array([1])), cache.read_logmel([0, 1])[1:])
        assert cache.read_logmel([]).shape == (0, 20, 16)


def test_two_runs_give_the_same_bytes(tmp_path):
    first = cached(tmp_path).read_bytes()
    assert cached(tmp_path).read_bytes() == first


def test_the_bytes_do_not_depend_on_the_shards(tmp_path, monkeypatch):
    expected = cached(tmp_path).read_bytes()
    monkeypatch.setattr("asd.cache.SHARD_SAMPLES", 2000)
    monkeypatch.setattr("asd.cache.KEPT_AFTER", 0)
    path = tmp_path / "small/fan.h5"
    write_cache(path, tmp_path / "fan/manifest.csv", SMALL)
    assert path.read_bytes() == expected
    assert [one.name for one in path.parent.iterdir()] == ["fan.h5"]


def test_texts_survive(tmp_path):
    clips = pd.DataFrame({column: ["", "0.10", "03", 'na\u00efve \u6f22\u5b57, "q"\n'] for column in COLUMNS})
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        write_clips(file, clips)
        pd.testing.assert_frame_equal(read_clips(file), clips, check_dtype=False)


# --- lengths ------------------------------------------------------------------------------------------------


def test_clips_of_different_length_are_named(tmp_path):
    with pytest.raises(InputError) as caught:
        cached(tmp_path, lengths=(2000, 2000, 1500))
    assert "2 of 3 have 2000 samples, but 1 have 1500 (test/section_00_0000.wav)" in str(caught.value)
    assert "logmel.lengths" in str(caught.value)
    assert not left_over(tmp_path)


def test_crop_and_pad(tmp_path):
    lengths = (2000, 1700, 1500)
    with open_cache(cached(tmp_path, SMALL.model_copy(update={"lengths": "crop"}), lengths=lengths)) as cache:
        for i, name in enumerate(NAMES):
            np.testing.assert_array_equal(cache.read_waveform([i])[0], sound(tmp_path, name)[:1500])
    with open_cache(cached(tmp_path, SMALL.model_copy(update={"lengths": "pad"}), lengths=lengths)) as cache:
        for i, (name, length) in enumerate(zip(NAMES, lengths, strict=True)):
            padded = np.concatenate([sound(tmp_path, name), np.zeros(2000 - length, np.int16)])
            np.testing.assert_array_equal(cache.read_waveform([i])[0], padded)
        assert (cache.read_logmel([2])[0, :, -2:] == -100).all()


def test_many_lengths_make_a_short_message():
    with pytest.raises(InputError) as caught:
        common_length({f"{i}.wav": 1000 + i // 5 for i in range(500)}, LogMel())
    assert "(5.wav, 6.wav, 7.wav and 2 more)" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_what_cropping_and_padding_cost_is_said(caplog):
    samples = {"a.wav": 16000, "b.wav": 12000, "c.wav": 16000}
    crop, pad = LogMel(lengths="crop"), LogMel(lengths="pad")
    assert common_length(samples, crop) == 12000
    assert "cropped to the 0.75 s of the shortest, b.wav: 18 % of all sound is left out" in caplog.text
    assert common_length(samples, pad) == 16000
    assert "padded with zeros to the 1.00 s of the longest, a.wav: 8 % of all samples are zeros" in caplog.text
    with pytest.raises(InputError, match=r"of the shortest, b\.wav: 23 % .*expected 20 % at most \(logmel\.crop_limit"):
        common_length(samples | {"b.wav": 11000}, crop)
    assert common_length(samples | {"b.wav": 100}, LogMel(lengths="crop", crop_limit=1)) == 100
    caplog.clear()
    assert common_length({"a.wav": 9, "b.wav": 9}, crop) == common_length({"a.wav": 9, "b.wav": 9}, pad) == 9
    assert not caplog.text


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["equal", "crop", "pad"])
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_recording_is_found_before_anything_is_written(tmp_path, name, policy):
    manifest = corpus(tmp_path)
    wav = tmp_path / "fan" / name
    wav.write_bytes(wav.read_bytes()[:-1000])
    with pytest.raises(InputError, match="truncated") as caught:
        write_cache(tmp_path / "fan.h5", manifest, SMALL)
    assert str(wav) in str(caught.value)
    assert not left_over(tmp_path)


def test_a_recording_that_is_gone(tmp_path):
    manifest = corpus(tmp_path)
    (tmp_path / "fan" / NAMES[1]).unlink()
    with pytest.raises(InputError, match=NAMES[1]):
        write_cache(tmp_path / "fan.h5", manifest, SMALL)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    manifest = corpus(tmp_path)
    monkeypatch.setattr("asd.audio.log_mel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_cache(tmp_path / "fan.h5", manifest, SMALL)
    assert not left_over(tmp_path)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("asd.cache.SHARD_SAMPLES", 2000)
    monkeypatch.setattr("asd.cache.KEPT_AFTER", 0)


def counted(monkeypatch, stop_after: int = 99) -> list[Path]:
    """The recordings that are read from now on; reading breaks off after `stop_after` of them."""
    read, original = [], soundfiles.read

    def reading(path, settings):
        if len(read) == stop_after:
            raise KeyboardInterrupt
        read.append(path.name)
        return original(path, settings)

    monkeypatch.setattr("asd.soundfiles.read", reading)
    return read


def test_a_run_goes_on_where_the_last_one_stopped(tmp_path, monkeypatch, small_shards):
    expected = cached(tmp_path).read_bytes()
    path, manifest = tmp_path / "again/fan.h5", tmp_path / "fan/manifest.csv"
    with monkeypatch.context() as once:
        counted(once, stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            write_cache(path, manifest, SMALL)
    assert not path.exists()
    read = counted(monkeypatch)
    write_cache(path, manifest, SMALL)
    assert read == [Path(NAMES[2]).name]
    assert path.read_bytes() == expected
    assert [one.name for one in path.parent.iterdir()] == ["fan.h5"]


@pytest.mark.parametrize("spoilt", ["shard", "recording", "settings"])
def test_shards_of_something_else_are_not_used(tmp_path, monkeypatch, small_shards, spoilt):
    path, manifest, chosen = tmp_path / "again/fan.h5", corpus(tmp_path), SMALL
    with monkeypatch.context() as once:
        counted(once, stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            write_cache(path, manifest, SMALL)
    if spoilt == "shard":
        shard = min(path.parent.rglob("*.npz"))
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    elif spoilt == "recording":
        soundfile.write(tmp_path / "fan" / NAMES[0], np.ones(2000, np.int16), RATE, subtype="PCM_16")
    else:
        chosen = SMALL.model_copy(update={"mels": 21})
    write_cache(path, manifest, chosen)
    write_cache(tmp_path / "fresh.h5", manifest, chosen)
    assert path.read_bytes() == (tmp_path / "fresh.h5").read_bytes()
    assert [one.name for one in path.parent.iterdir()] == ["fan.h5"]


@pytest.mark.slow
def test_killed_and_started_again(tmp_path, monkeypatch):
    """SIGKILL once the first shards are there, then again: the bytes of an undisturbed run."""
    expected = cached(tmp_path).read_bytes()
    path, manifest = tmp_path / "again/fan.h5", tmp_path / "fan/manifest.csv"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from asd import cache, soundfiles; from asd.settings import LogMel\n"
        "cache.SHARD_SAMPLES = 2000; cache.KEPT_AFTER = 0; read = []\n"
        "torch = __import__('torch'); torch.set_num_threads(int(sys.argv[4]))\n"
        "def reading(file, settings, original=soundfiles.read):\n"
        "    read.append(file)\n"
        "    return original(file, settings) if len(read) < 3 else os.kill(os.getpid(), signal.SIGKILL)\n"
        "soundfiles.read = reading\n"
        "cache.write_cache(Path(sys.argv[1]), Path(sys.argv[2]), LogMel.model_validate_json(sys.argv[3]))"
    )
    words = [str(path), str(manifest), SMALL.model_dump_json(), str(torch.get_num_threads())]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.setattr("asd.cache.SHARD_SAMPLES", 2000)
    monkeypatch.setattr("asd.cache.KEPT_AFTER", 0)
    read = counted(monkeypatch)
    write_cache(path, manifest, SMALL)
    assert read == [Path(NAMES[2]).name]
    assert path.read_bytes() == expected


def test_equal_names_in_both_splits_do_not_hide_one_another_s_length(tmp_path):
    """2020 has them."""
    for split, samples in (("train", 2000), ("test", 1500)):
        file = tmp_path / f"fan/{split}/normal_id_00_00000000.wav"
        file.parent.mkdir(parents=True)
        soundfile.write(file, np.zeros(samples, np.int16), RATE, subtype="PCM_16")
    manifest = tmp_path / "fan/manifest.csv"
    write_manifest(manifest, scan(tmp_path, "fan", "id"))
    with pytest.raises(InputError, match="clips of different length"):
        write_cache(tmp_path / "fan.h5", manifest, SMALL)


def test_conversions_are_said(tmp_path, caplog):
    manifest = corpus(tmp_path)
    soundfile.write(tmp_path / "fan" / NAMES[0], np.zeros((6000, 2)), 3 * RATE, subtype="PCM_24")
    caplog.set_level("INFO")
    write_cache(tmp_path / "fan.h5", manifest, SMALL.model_copy(update={"convert": True, "channel": "mix"}))
    assert "1 of 3 recordings: WAV PCM_24 to 16 bit, mix of 2 channels, 48000 Hz to 16000 Hz" in caplog.text
    assert "2 of 3 recordings: taken as they are" in caplog.text


def everything(path: Path) -> tuple:
    with open_cache(path) as cache:
        rows = range(len(cache.clips))
        return (
            cache.clips.to_csv(),
            cache.settings,
            *(r(rows).tobytes() for r in (cache.read_logmel, cache.read_waveform)),
        )


@pytest.mark.parametrize("name", ["logmel", "waveform"])
def test_a_flipped_byte_in_a_clip_is_found(tmp_path, name):
    path = cached(tmp_path)
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    with open_cache(path) as cache:
        read = cache.read_logmel if name == "logmel" else cache.read_waveform
        read([0, 2])
        with pytest.raises(InputError, match=r"damaged.*delete it and run again") as caught:
            read([1])
    assert str(path) in str(caught.value)


def test_no_flipped_byte_anywhere_changes_what_is_read(tmp_path):
    path = cached(tmp_path)
    expected, data = everything(path), path.read_bytes()
    rng, messages = np.random.default_rng(0), []
    # All of the first structures, and a sample of the rest.
    for at in [*range(0, 600, 7), *rng.integers(0, len(data), 200)]:
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert everything(path) == expected, at
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 150
    assert all(str(path) in message for message in messages)


@pytest.mark.parametrize("kept", [0, 1, 8, 100, 0.2, 0.5, 0.9, -1])
def test_a_truncated_cache(tmp_path, kept):
    path = cached(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"damaged, or not a log-mel cache .*; delete it and run again") as caught:
        everything(path)
    assert str(path) in str(caught.value)


def test_what_is_no_cache(tmp_path):
    with pytest.raises(InputError, match=r"gone\.h5: no such log-mel cache"), open_cache(tmp_path / "gone.h5"):
        pass
    (tmp_path / "text.h5").write_text("clip,score\n")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.zeros(3)
    for name in ("text.h5", "other.h5"):
        with pytest.raises(InputError, match=f"{name}: damaged, or not a log-mel cache"), open_cache(tmp_path / name):
            pass


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: file.attrs.modify("layout", LAYOUT + 1), f"found layout {LAYOUT + 1}, expected {LAYOUT}"),
        (lambda file: file.attrs.modify("settings", "{}}"), "settings|JSON"),
        (lambda file: file.attrs.modify("settings", '{"bins": 224}'), "bins"),
        (lambda file: file.attrs.modify("settings", '{"mels": 21}'), r"logmel: found the shape \(3, 20, 16\)"),
        (lambda file: file.__delitem__("waveform"), "waveform"),
        (lambda file: file["clips"].__delitem__("label"), "label"),
    ],
)
def test_a_cache_of_another_layout(tmp_path, change, expected):
    path = cached(tmp_path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=expected) as caught, open_cache(path):
        pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_of_the_reader_s_own_pass_through(tmp_path):
    with pytest.raises(KeyError), open_cache(cached(tmp_path)) as cache:
        cache.clips["no such column"]
