"""AudioMAE: its filter bank beside Kaldi's, its features beside timm's, its weights in the published layout."""

import argparse
import json
import pathlib

import kaldi_native_fbank
import numpy as np
import pytest
import safetensors.torch
import soundfile
import timm
import torch
from conftest import call

from asd import audiomae, fitting, weights
from asd.audiomae import FilterBank, Network, prepared
from asd.cache import open_cache
from asd.challenge.meta import network_complexity
from asd.detector import Detector
from asd.errors import InputError
from asd.features import open_features
from asd.kinds import load
from asd.network import make_backbone, save
from asd.settings import Audiomae, Backbone, Compute, Training, Windows
from asd.settings import Network as Entry

CPU = torch.device("cpu")
TINY = "vit_tiny_patch16_64_128"
LONGEST = 400 + 63 * 160  # samples of 64 frames


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """Noise, a tone and an offset, (samples,) float32."""
    random = np.random.default_rng(seed)
    return np.float32(random.normal(0, 0.1, samples) + 0.3 * np.sin(0.2 * np.arange(samples)) + 0.05)


def kaldi(waveform: np.ndarray, mels: int) -> np.ndarray:
    """Kaldi's filter bank as AudioMAE's code asks for it, (frames, mels)."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hanning"
    options.mel_opts.num_bins = mels
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(16000, (waveform - waveform.mean()).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(frame) for frame in range(bank.num_frames_ready)])


@pytest.mark.parametrize("mels", [40, 100])  # with 128, one triangle lies between two bins, which this library refuses
def test_the_filter_bank_is_kaldis(mels):
    waveform = sound(16000)
    found = FilterBank(mels)(torch.from_numpy(waveform)[None])[0]
    assert found.shape == (98, mels)
    np.testing.assert_allclose(found, kaldi(waveform, mels), rtol=0, atol=1e-3)


def test_a_triangle_by_hand():
    """The last of 128: its edges are 2 and 1 steps of a 129th of the mel scale below 8000 Hz, and 8000 Hz."""
    lowest, highest = (1127 * np.log(1 + frequency / 700) for frequency in (20, 8000))
    step = (highest - lowest) / 129
    triangles = FilterBank(128).triangles
    at = 1127 * np.log(1 + 7750 / 700)  # bin 248
    assert float(triangles[248, 127]) == pytest.approx(1 - abs(at - (highest - step)) / step, abs=1e-5)
    assert triangles[256].sum() == 0
    assert int((triangles.sum(0) == 0).sum()) == 1


def test_silence_has_the_least_energy():
    bank = FilterBank(128)(torch.zeros(1, 300))
    assert bank.shape == (1, 1, 128)
    np.testing.assert_allclose(bank, np.log(2.0**-23), rtol=1e-6)


def settings(pool: str = "clip") -> Training:
    return Training(kind="audiomae", audiomae=Audiomae(pool=pool))


def start(name: str = TINY, fine_tuned: bool = False):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = make_backbone(name, fine_tuned=fine_tuned).state_dict()
        for key in ("norm", "fc_norm"):  # not the identity, as it begins
            if f"{key}.weight" in state:
                state[f"{key}.weight"].normal_()
    return state, {"backbone": name}


def make(cache_path, pool: str = "clip", fine_tuned: bool = False) -> Network:
    with open_cache(cache_path) as cache:
        return prepared(start(fine_tuned=fine_tuned), cache, settings(pool), None, CPU)[0]


def timms(network: Network, fine_tuned: bool):
    """timm's own network with the same tensors."""
    options = {"img_size": (64, 128), "in_chans": 1, "global_pool": "avg", "fc_norm": fine_tuned, "num_classes": 0}
    other = timm.create_model("vit_tiny_patch16_224", **options)
    other.load_state_dict(network.backbone.state_dict())
    return other.eval()


def standardised(waveform: np.ndarray, frames: int = 64) -> torch.Tensor:
    """The input of the publication: padded by zeros, minus the mean, divided by twice the deviation of AudioSet."""
    bank = FilterBank(128)(torch.from_numpy(waveform)[None])[0].numpy()
    padded = np.pad(bank, ((0, frames - len(bank)), (0, 0)))
    return torch.from_numpy((padded + 4.2677393) / (2 * 4.5689974)).float()[None, None]


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_a_clip_of_all_frames_has_timms_features(cache_path, fine_tuned):
    network, waveform = make(cache_path, fine_tuned=fine_tuned), sound(LONGEST)
    assert network.description.fine_tuned == fine_tuned
    with torch.inference_mode():
        expected = timms(network, fine_tuned)(standardised(waveform))
        found = network.embed(torch.from_numpy(waveform)[None])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_patches_of_nothing_but_padding_are_left_out(cache_path):
    """33 frames are two patches of 16, and one of a frame and padding; the fourth is nothing but padding."""
    waveform = sound(400 + 32 * 160)
    clip, bands = make(cache_path), make(cache_path, "bands")
    assert (clip.widths, bands.widths) == ([192], [8 * 192])
    with torch.inference_mode():
        tokens = timms(clip, False).forward_features(standardised(waveform))[0, 1:].reshape(4, 8, 192)[:3]
        found = clip.embed(torch.from_numpy(waveform)[None])[0]
        by_band = bands.embed(torch.from_numpy(waveform)[None])[0]
    np.testing.assert_allclose(found, tokens.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_band, tokens.mean(0).flatten(), rtol=1e-4, atol=1e-5)


def test_a_longer_clip_is_heard_in_pieces(cache_path):
    network, waveform = make(cache_path), torch.from_numpy(sound(LONGEST + 3000))[None]
    with torch.inference_mode():
        ends = [network.embed(part)[0] for part in (waveform[:, :LONGEST], waveform[:, 3000:])]
        found = network.embed(waveform)[0]
    np.testing.assert_allclose(found, (ends[0] + ends[1]) / 2, rtol=1e-4, atol=1e-5)


def test_a_large_batch_goes_through_the_transformer_in_parts(cache_path, monkeypatch):
    network = make(cache_path)
    waveforms = torch.from_numpy(np.stack([sound(5000, seed) for seed in range(5)]))
    with torch.inference_mode():
        together = network.embed(waveforms)
        monkeypatch.setattr(audiomae, "AT_ONCE", 2)
        seen = []
        network.backbone.patch_embed.register_forward_hook(lambda layer, heard, patches: seen.append(len(patches)))
        np.testing.assert_allclose(network.embed(waveforms), together, rtol=1e-4, atol=1e-5)
    assert seen == [2, 2, 1]


# --- weights ------------------------------------------------------------------------------------------------


def published(fine_tuned: bool = False) -> dict[str, torch.Tensor]:
    """Zeros with the names and shapes of the published ViT-B/16, which take no place in a file."""
    block = {
        "norm1.weight": [768],
        "norm1.bias": [768],
        "attn.qkv.weight": [2304, 768],
        "attn.qkv.bias": [2304],
        "attn.proj.weight": [768, 768],
        "attn.proj.bias": [768],
        "norm2.weight": [768],
        "norm2.bias": [768],
        "mlp.fc1.weight": [3072, 768],
        "mlp.fc1.bias": [3072],
        "mlp.fc2.weight": [768, 3072],
        "mlp.fc2.bias": [768],
    }
    norm = "fc_norm" if fine_tuned else "norm"
    shapes = {
        "cls_token": [1, 1, 768],
        "pos_embed": [1, 513, 768],
        "patch_embed.proj.weight": [768, 1, 16, 16],
        "patch_embed.proj.bias": [768],
        **{f"blocks.{number}.{key}": shape for number in range(12) for key, shape in block.items()},
        f"{norm}.weight": [768],
        f"{norm}.bias": [768],
    }
    if fine_tuned:
        shapes |= {"head.weight": [527, 768], "head.bias": [527]}
    else:
        shapes |= {"mask_token": [1, 1, 512], "decoder_pos_embed": [1, 513, 512], "decoder_embed.weight": [512, 768]}
        shapes |= {"decoder_blocks.0.norm1.weight": [512], "decoder_pred.bias": [256]}
    return {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_checkpoints_in_the_published_layout_are_read(tmp_path, fine_tuned):
    """As MAE's code saves them, with the arguments of the training. Its log counts 85,659,407 trainable parameters."""
    path = tmp_path / "published.pth"
    torch.save({"model": published(fine_tuned), "optimizer": {}, "epoch": 32, "args": argparse.Namespace(lr=1)}, path)
    found = weights.fetch(Backbone(name="vit_base_patch16_1024_128", weights=str(path)))
    assert set(found) == {key for key in published(fine_tuned) if not key.startswith(("decoder", "mask", "head"))}
    trainable = sum(value.numel() for key, value in found.items() if key != "pos_embed") + 527 * 769
    assert trainable == 85_659_407


def test_files_of_tensors_become_one_of_safetensors(tmp_path):
    state = start()[0]
    for name, write in (("a.safetensors", safetensors.torch.save_file), ("b.bin", torch.save)):
        write(state, tmp_path / name)
        one, out = Backbone(name=TINY, weights=str(tmp_path / name)), tmp_path / f"{name}.out"
        call("weights", settings=one, out=out)
        assert all(torch.equal(value, state[key]) for key, value in safetensors.torch.load_file(out).items())


def test_files_that_could_run_code_are_refused(tmp_path):
    path = tmp_path / "strange.pt"
    torch.save({"model": start()[0], "where": pathlib.PurePosixPath("a")}, path)
    with pytest.raises(InputError, match=r"strange\.pt: found a pathlib\.PurePosixPath; expected tensors"):
        weights.fetch(Backbone(name=TINY, weights=str(path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dictionary of tensors, or one below 'model'"),
        ({"model": {"a": 1}}, "expected a dictionary of tensors"),
        ({"norm.weight": torch.zeros(3)}, "not the weights of backbone.name 'vit_tiny_patch16_64_128': 150 of"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(InputError, match=message):
        weights.fetch(Backbone(name=TINY, weights=str(tmp_path / "other.pt")))


@pytest.mark.parametrize("content", [b"", b"text, not tensors"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged\.pth: found what torch cannot read"):
        weights.fetch(Backbone(name=TINY, weights=str(tmp_path / "damaged.pth")))
    with pytest.raises(InputError, match=r"none\.pth: not a readable file of weights"):
        weights.fetch(Backbone(name=TINY, weights=str(tmp_path / "none.pth")))


def test_the_hub_is_asked_for_tensors_alone(monkeypatch):
    def fetched(model: str, weights_only: bool) -> dict[str, torch.Tensor]:
        assert (model, weights_only) == ("owner/model", True)
        return start()[0] | {"head.weight": torch.zeros(2, 192)}

    monkeypatch.setattr("timm.models.load_state_dict_from_hf", fetched)
    backbone = Backbone(name=TINY, weights="hf_hub:owner/model")
    assert backbone.path == ""
    assert weights.fetch(backbone).keys() == start()[0].keys()

    def unreachable(model: str, weights_only: bool) -> dict[str, torch.Tensor]:
        raise OSError("Name or service not known")

    monkeypatch.setattr("timm.models.load_state_dict_from_hf", unreachable)
    with pytest.raises(InputError, match=r"hf_hub:owner/model: could not be fetched .*give its path"):
        weights.fetch(backbone)


# --- in the workflow ----------------------------------------------------------------------------------------


AUDIO = {"name": TINY, "weights": "none"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "audiomae"}, "backbone.name: found 'tf_efficientnet_lite1'; the kind audiomae needs"),
        ({"kind": "audiomae", "backbone": AUDIO | {"name": "vit_tiny_patch16_60_128"}}, "both multiples of 16"),
        ({"kind": "audiomae", "backbone": AUDIO | {"weights": "package"}}, "backbone.weights: found package"),
        ({"kind": "audiomae", "backbone": AUDIO, "logmel": {"rate": 32000}}, "found 32000 Hz; the kind audiomae hears"),
        ({"backbone": AUDIO}, "backbone.name: found 'vit_tiny_patch16_64_128', an audio transformer"),
    ],
)
def test_what_does_not_go_together_is_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        Entry.model_validate(entry)


def test_an_architecture_that_timm_does_not_know_is_refused():
    with pytest.raises(InputError, match="timm knows no 'vit_odd_patch16_64_128'"):
        weights.fetch(Backbone(name="vit_odd_patch16_64_128", weights="none"))


def test_the_stages_leave_the_weights_as_they_are(tmp_path, cache_path):
    compute, network = Compute(device="cpu", threads=1), tmp_path / "network.safetensors"
    call("weights", settings=Backbone(**AUDIO), out=tmp_path / "weights.safetensors")
    call(
        "train",
        cache=[cache_path],
        start=tmp_path / "weights.safetensors",
        settings=settings("bands"),
        compute=compute,
        out=network,
        curve=tmp_path / "curve.csv",
        checkpoint=tmp_path / "checkpoint.safetensors",
    )
    assert (tmp_path / "curve.csv").read_text().count("\n") == 1
    begun, read = safetensors.torch.load_file(tmp_path / "weights.safetensors"), load(network)
    assert all(torch.equal(value, begun[key]) for key, value in read.backbone.state_dict().items())
    call("features", cache=cache_path, network=network, settings=Windows(), compute=compute, out=tmp_path / "f.h5")
    with open_features(tmp_path / "f.h5") as features, open_cache(cache_path) as cache:
        assert features.widths.tolist() == [8 * 192]
        with torch.inference_mode():
            expected = read.vectors(torch.from_numpy(cache.read_waveform([5])))
        np.testing.assert_allclose(features.rows(5, 6), expected, rtol=1e-3, atol=1e-4)


def test_a_detector_scores_recordings_as_the_workflow_scored_them(tmp_path, cache_path):
    overlay, corpus = tmp_path / "overlay.yaml", cache_path.parent
    model = {"title": "A", "network": "a", "detector": "knn", "knn": {"metric": "cosine", "density": "ratio"}}
    entry = {"kind": "audiomae", "backbone": AUDIO}
    overlay.write_text(json.dumps({"networks": {"a": entry}, "models": {"a": model}, "check": {"refuse": []}}))
    with open_cache(cache_path) as cache:
        clips = cache.clips.assign(path=[str(corpus / path) for path in cache.clips["path"]])
    made = fitting.fit(clips, "a", fitting.configured((overlay,), corpus, "fan"), tmp_path / "a.zip", CPU, tmp_path)
    detector, test = Detector.load(tmp_path / "a.zip"), made.scores[made.scores["split"] == "test"]
    paths = dict(zip(clips["file"], clips["path"], strict=True))
    for row in test.iloc[::5].itertuples():
        waveform, rate = soundfile.read(paths[row.file], dtype="int16")
        assert detector.score(waveform, rate, row.section).score == pytest.approx(row.score, rel=1e-3)


def test_its_operations_are_counted(tmp_path, cache_path):
    """The weights of dense layers and the patches' kernel, each once per token, and the products of attention."""
    network = make(cache_path)
    save(tmp_path / "network.safetensors", network)
    found = network_complexity(tmp_path / "network.safetensors", 64, 32, LONGEST, 1, exposure=False)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    tokens, width = 33, 192
    products = 12 * (tokens * 12 * width**2 + 2 * tokens**2 * width) + 32 * 256 * width + 64 * 257 * 128
    assert found.macs == products
