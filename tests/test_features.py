"""Features: the right frames through the network, in the order of the clips."""

import h5py
import numpy as np
import pytest
import torch

from asd import features, weights
from asd.cache import open_cache
from asd.errors import InputError
from asd.network import Description, Network
from asd.settings import Backbone, Windows


@pytest.fixture(scope="module")
def network():
    net = Network(Description("tf_efficientnet_lite1", "fan", 1, ("00", "01"), ("",), "{}"))
    net.backbone.load_state_dict(weights.fetch(Backbone()))
    net.mean.fill_(-60)
    net.deviation.fill_(20)
    return net.eval()


@pytest.mark.parametrize("settings", [Windows(), Windows(window=16, hop=8, test_hop=1)])
def test_each_row_is_the_network_on_its_own_frames(cache_path, network, settings, tmp_path, monkeypatch):
    monkeypatch.setitem(features.FRAMES_AT_ONCE, "cpu", 16 * 7)  # batches that end within a clip
    path = tmp_path / "features.h5"
    with open_cache(cache_path) as cache:
        features.write_features(path, network, cache, settings, torch.device("cpu"))
        frames = cache.frames
        with features.open_features(path) as opened:
            assert list(opened.clips["file"]) == list(cache.clips["file"])
            assert opened.widths.sum() == 2096
            for clip in (0, len(opened.clips) - 1):  # a training clip and a test clip
                begin, end = opened.offsets[clip : clip + 2]
                hop = settings.hop if opened.clips["split"][clip] == "train" else settings.test_hop
                window = settings.window or frames
                starts = range(0, frames - window + 1, hop)
                assert end - begin == len(starts)
                logmel = torch.from_numpy(cache.read_logmel([clip]))
                with torch.inference_mode():
                    # One window at a time: what a plain loop would do.
                    rows = [network.features(network.standardise(logmel[..., s : s + window])) for s in starts]
                np.testing.assert_allclose(opened.rows(begin, end), torch.cat(rows).numpy(), rtol=1e-3, atol=1e-4)
            assert opened.offsets[-1] == opened.values.shape[0]
            columns = np.array([0, 5, 2095])
            np.testing.assert_array_equal(opened.rows(1, 3, columns), opened.rows(1, 3)[:, columns])


def test_the_bytes_do_not_depend_on_the_threads(cache_path, network, tmp_path, monkeypatch):
    monkeypatch.setitem(features.FRAMES_AT_ONCE, "cpu", 16 * 7)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        with open_cache(cache_path) as cache:
            path = tmp_path / f"{threads}.h5"
            features.write_features(path, network, cache, Windows(window=16, hop=8, test_hop=4), torch.device("cpu"))
        assert torch.get_num_threads() == threads
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()


def test_windows_of_the_paper():
    """313 frames: 32 windows at hop 8 in training, 250 at hop 1 in test (the official baseline's numbers)."""
    rows = features.cut(np.array([True, False, True]), 313, Windows(window=64))
    assert np.diff(rows.offsets).tolist() == [32, 250, 32]
    assert rows.start[:3].tolist() == [0, 8, 16]
    assert rows.start.max() + 64 <= 313


def test_clips_shorter_than_the_window_are_refused():
    with pytest.raises(InputError, match="found 64 frames, but the clips have 63"):
        features.cut(np.array([True]), 63, Windows(window=64))


def test_a_damaged_file_is_refused_by_name(cache_path, network, tmp_path):
    path = tmp_path / "features.h5"
    with open_cache(cache_path) as cache:
        features.write_features(path, network, cache, Windows(), torch.device("cpu"))
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 100] ^= 1
    path.write_bytes(content)
    with (
        features.open_features(path) as opened,
        pytest.raises(InputError, match=r"features\.h5: damaged, or not a features file"),
    ):
        opened.rows(0, 1)
    for broken in (b"", b"text", bytes(content[: len(content) // 2])):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"features\.h5: damaged"), features.open_features(path):
            pass


def test_a_failure_leaves_no_file(cache_path, network, tmp_path, monkeypatch):
    def fail(standardised):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(network, "features", fail)
    with open_cache(cache_path) as cache, pytest.raises(RuntimeError):
        features.write_features(tmp_path / "features.h5", network, cache, Windows(), torch.device("cpu"))
    assert list(tmp_path.iterdir()) == []
