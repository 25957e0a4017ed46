"""The configuration: refused where wrong, handed down, and canonical as flags."""

import re
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from asd import settings
from asd.errors import InputError

ROOT = Path(__file__).parents[1]


def configuration(*overlays):
    """config.yaml with overlays, merged as Snakemake merges them."""
    merged = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for overlay in overlays:
        update_config(merged, overlay)
    return merged


def test_recordings_of_ones_own_have_a_threshold_per_section_and_the_challenge_one_per_machine():
    assert settings.load(configuration()).models["spectrum"].threshold.scope == "machine"
    own = configuration() | {"dataset": {"kind": "folder", "folder": {"path": "recordings"}}, "machines": ["fan"]}
    assert settings.load(own).models["spectrum"].threshold.scope == "section"
    own["threshold"] = own["threshold"] | {"scope": "machine"}
    assert settings.load(own).models["spectrum"].threshold.scope == "machine"


def test_without_labels_a_fusion_decides_or_else_the_first_of_the_papers_models():
    assert settings.load(configuration()).fallback == "fusion"
    assert settings.load(configuration() | {"run_models": "all"}).run_models == list(configuration()["models"])
    some = {"run_models": ["level", "nearest", "spectrum"], "paper_models": ["global", "spectrum", "nearest"]}
    assert settings.load(configuration() | some).fallback == "spectrum"
    assert settings.load(configuration() | {"run_models": ["level", "nearest"]}).fallback == "level"


def test_the_default_configuration_names_every_demo_stage_key():
    written = configuration()
    loaded = settings.load(written)
    for block in ("logmel", "backbone", "compute", "threshold"):
        fields = set(type(getattr(loaded, block)).model_fields) - {"scope"}  # its default depends on dataset.kind
        assert set(written[block]) == fields, block


def test_the_papers_configuration_is_valid():
    paper = settings.load(configuration(yaml.safe_load((ROOT / "config/dcase2022.yaml").read_text())))
    assert len(paper.machines) == 7
    assert paper.networks["local"].batch == 256
    assert paper.networks["oe"].batch == 100  # handed down from train
    assert paper.networks["oe"].equaliser.probability == 0.5
    assert paper.dataset.name == "dcase2022"


BASELINES = yaml.safe_load((ROOT / "config/baselines.yaml").read_text())


def test_the_baselines_are_valid_and_have_the_published_settings():
    loaded = settings.load(configuration(BASELINES))
    ae, mobilenet = loaded.networks["ae"], loaded.networks["mobilenet"]
    assert ae.training.flags == (
        "--autoencoder.batch 512 --autoencoder.epochs 100 --autoencoder.rate 0.001 --autoencoder.validation last "
        "--kind autoencoder --scope machine --seed 42"
    )
    assert (ae.logmel.mels, ae.windows.window) == (128, 0)
    assert (loaded.networks["ae_later"].autoencoder.batch, mobilenet.mobilenet.rate) == (256, 1e-5)
    assert mobilenet.windows == settings.Windows(window=64, hop=8, test_hop=1)
    assert loaded.trained_as("ae_later") == "ae_later"
    faster = settings.load(configuration(BASELINES, {"mobilenet": {"test_hop": 8}})).networks["mobilenet"]
    assert (faster.windows.test_hop, faster.training) == (8, mobilenet.training)  # it is not trained again
    assert set(loaded.run_models) >= set(BASELINES["models"])


def test_the_audio_transformer_is_valid_and_has_random_weights_beside_it():
    loaded = settings.load(configuration(yaml.safe_load((ROOT / "config/audio.yaml").read_text())))
    own, random = (loaded.networks[name] for name in ("audiomae", "audiomae_random"))
    assert (own.kind, own.starts, own.learns, own.backbone.path) == ("audiomae", True, False, "")
    assert (random.backbone.name, random.backbone.weights) == (own.backbone.name, "none")
    assert own.training == random.training
    assert loaded.trained_as("audiomae_random") == "audiomae_random"
    assert loaded.models["audiomae"].fit == loaded.models["audiomae_random"].fit
    with pytest.raises(InputError) as refused:
        settings.load(configuration({"networks": {"x": {"kind": "audiomae"}}}))
    assert str(refused.value).endswith(", such as vit_base_patch16_1024_128")  # and not with the whole block


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"detector": "exposure"},
            "models.ae.detector: exposure needs a classifier of sections; a network of kind auto",
        ),
        ({"detector": "gaussian"}, "models.ae.mvg.stages: found stage 6; the network ae ends with stage 3"),
        ({"value": {"stages": [4]}}, "models.ae.value.stages: found stage 4; the network ae ends with stage 3"),
    ],
)
def test_what_an_autoencoder_does_not_have_is_refused(model, message):
    with pytest.raises(InputError, match=re.escape(message)):
        settings.load(configuration(BASELINES, {"models": {"ae": model}}))


def test_entries_inherit_and_override():
    loaded = settings.load(
        configuration(
            {"train": {"rate": 0.5, "mixup": {"alpha": 0.1}}, "networks": {"global": {"epochs": 9}}},
            {"mvg": {"ridge": 0.5}, "models": {"global": {"mvg": {"covariance": "ridge"}}}},
        )
    )
    assert loaded.networks["global"].rate == 0.5
    assert loaded.networks["global"].epochs == 9
    assert loaded.networks["global"].mixup.alpha == 0.4  # its own
    assert (loaded.models["global"].mvg.covariance, loaded.models["global"].mvg.ridge) == ("ridge", 0.5)
    assert loaded.models["local"].mvg.covariance == "ledoit_wolf"


def test_a_network_of_another_kind_takes_its_own_block_and_of_train_what_all_kinds_have():
    changes = {"train": {"epochs": 7, "seed": 5}, "waveform": {"steps": 9, "loss": {"centres": 3}}}
    loaded = settings.load(configuration(changes | {"networks": {"waveform": {"waveform": {"batch": 8}}}}))
    network = loaded.networks["waveform"]
    own = network.waveform
    assert (network.seed, own.steps, own.loss.centres, own.batch) == (5, 9, 3, 8)
    flags = network.training.flags
    assert flags.startswith("--kind waveform --scope all --seed 5 --waveform.batch 8 ")
    assert "epochs 7" not in flags
    assert "waveform" not in loaded.networks["global"].training.flags
    assert settings.load(loaded.model_dump()) == loaded


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"trian": {"epochs": 3}}, "trian: unknown key"),
        ({"networks": {"global": {"mixup": {"alhpa": 1}}}}, "networks.global.mixup.alhpa: unknown key"),
        ({"train": {"epochs": -1}}, "train.epochs"),
        ({"train": {"rate": "fast"}}, "found 'fast'"),
        ({"train": {"rate": float("nan")}}, "train.rate"),
        ({"machines": []}, "machines"),
        ({"machines": ["fan", "fan"]}, "each name once"),
        ({"machines": ["../etc"]}, "is not a name"),
        ({"run_models": ["globl"]}, "'globl' is not an entry of models (level, nearest"),
        ({"models": {"global": {"network": "x"}}}, "models.global.network: 'x' is not an entry of networks"),
        ({"models": {"ensemble": {"title": "E", "network": "oe", "detector": "exposure"}}}, "rename the entry"),
        ({"models": {"local": {"title": "CNN-Global"}}}, "each title once"),
        ({"models": {"oe": {"title": "Our Best"}}}, "found ['Our Best']"),
        ({"compute": {"device": "gpu"}}, "compute.device"),
        ({"networks": {"global": {"warm_start": "oe"}}}, "form a circle"),
        ({"networks": {"oe": {"warm_start": "x"}}}, "networks.oe.warm_start: 'x'"),
        ({"ensemble": {"fallback": "x"}}, "ensemble.fallback: 'x'"),
        ({"dataset": {"kind": "folder"}}, "dataset.folder.path: needed"),
        ({"dataset": {"kind": "tape"}}, "found 'tape'"),
        (
            {"dataset": {"kind": "dcase2022"}, "machines": ["fan", "pump"]},
            "dcase2022 has no 'pump'; expected of ToyCar",
        ),
        ({"dataset": {"kind": "dcase2023", "published": {"parts": ["development"]}}, "machines": ["Vacuum"]}, "Vacuum"),
        ({"dataset": {"published": {"parts": ["development", "evaluation"]}}}, "evaluation needs additional"),
        ({"dataset": {"published": {"parts": ["training"]}}}, "dataset.published.parts.0"),
        ({"dataset": {"published": {"base_url": "zenodo.org"}}}, "'zenodo.org' is not the address of a server"),
        ({"dataset": {"published": {"connections": 0}}}, "dataset.published.connections"),
        ({"mvg": {"stages": [2, 1]}}, "ascending"),
        ({"mvg": {"stages": []}}, "at least one"),
        ({"networks": None}, "networks"),
        ({"networks": {"global": 3}}, "networks.global"),
        ({"train": 3}, "train"),
        ({"networks": {"global": {"kind": "wavform"}}}, "found 'wavform'"),
        (
            {"networks": {"waveform": {"window": 64}}},
            "networks.waveform.window: this is a setting of the kind",
        ),
        (
            {"networks": {"waveform": {"warm_start": "global"}}},
            "those of the kind waveform are in networks.wave",
        ),
        ({"networks": {"waveform": {"waveform": {"step": 3}}}}, "networks.waveform.waveform.step: unknown key"),
        ({"waveform": {"resolutions": []}}, "waveform.resolutions"),
        ({"waveform": {"loss": {"kind": "adacos"}}}, "waveform.loss.kind"),
        ({"train": {"kind": "waveform"}}, "train.kind: found 'waveform'; each entry of networks has its own"),
        ({"train": {"waveform": {"steps": 3}}}, "train.waveform: this block is at the top of the configuration"),
        ({"models": {"waveform": {"detector": "exposure"}}}, "models.waveform.detector: exposure needs a"),
    ],
)
def test_what_is_wrong_is_refused_with_the_path_of_its_key(overlay, message):
    with pytest.raises(InputError) as refusal:
        settings.load(configuration(overlay))
    assert message in str(refusal.value)


def test_flags_are_canonical():
    one = settings.Training.model_validate({"rate": 1e-3, "epochs": 3, "mixup": {"alpha": 1}})
    other = settings.Training.model_validate({"mixup": {"alpha": 1.0}, "epochs": 3, "rate": 0.0010})
    assert settings.flags(one) == settings.flags(other)
    assert "--mixup.alpha 1.0" in settings.flags(one)
    assert "--rate 0.001" in settings.flags(one)
    assert settings.flags(settings.Folder(path="a b/c;d"), "folder.") == "--folder.path 'a b/c;d'"
    assert "--stages 1 9" in settings.flags(settings.Mvg(stages=[1, 9]))


def test_a_manifest_does_not_depend_on_how_recordings_are_fetched():
    one = settings.Dataset(kind="dcase2022")
    block = {"base_url": "http://mirror.example/", "archives": "a b", "connections": 1}
    other = settings.Dataset(kind="dcase2022", published=block)
    assert one.flags == other.flags
    assert "--published.base_url http://mirror.example --published.connections 1" in other.transfer
    assert one.flags != settings.Dataset(kind="dcase2022", published={"ground_truth": "x"}).flags
    assert settings.Dataset().transfer == ""


def test_a_slice_holds_what_its_stage_depends_on():
    network = settings.Network(window=64, hop=8, warm_start="x")
    assert "hop" not in network.training.flags
    assert settings.flags(network.windows) == "--hop 8 --test_hop 1 --window 64"
    # Whole clips have no hop, so changing it changes nothing.
    assert settings.Network(hop=3).windows == settings.Network(hop=5).windows


def test_networks_without_pre_trained_weights_take_batch_norms_as_they_learn_unless_told_otherwise():
    def norm(**overlay):
        return settings.load(configuration(overlay)).networks["local"].training.norm

    assert norm() == "frozen"
    assert norm(backbone={"weights": "none"}) == "batch"
    assert norm(networks={"local": {"backbone": {"weights": "none"}}}) == "batch"
    assert norm(backbone={"weights": "none"}, train={"norm": "frozen"}) == "frozen"
    assert norm(train={"norm": "batch"}) == "batch"
    assert settings.Network(backbone=settings.Backbone(weights="none")).norm == "batch"


def test_two_corpora_never_share_a_folder():
    names = {settings.Dataset(kind="demo", demo={"seed": seed}).name for seed in range(5)}
    names |= {settings.Dataset(kind="folder", folder={"path": path}).name for path in "ab"}
    assert len(names) == 7
    unused = settings.Dataset(kind="demo", folder={"path": "a"})
    assert unused.name == settings.Dataset(kind="demo").name


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"network": "global", "spectrum": "mean"}, r"models\.new: exactly one of network, spectrum and members"),
        ({}, r"models\.new: exactly one of network, spectrum and members is needed; found \[\]"),
        ({"spectrum": "men"}, r"models\.new\.spectrum: 'men' is not an entry of spectra \(mean, ranked, level\)"),
        ({"spectrum": "mean", "detector": "exposure"}, r"models\.new\.detector: exposure needs the classifier"),
        ({"spectrum": "mean", "mvg": {"stages": [4, 5]}}, r"models\.new\.mvg\.stages: these are stages of a network"),
        ({"spectrum": "mean", "detector": "gmm", "domains": "nearest"}, r"models\.new\.domains: nearest is for the"),
        ({"members": ["global", "fusion"]}, r"models\.new\.members: 'fusion' is not an entry of models with a network"),
        ({"members": ["global", "global"]}, r"models\.new\.members: at least two, each once"),
        ({"members": ["global", "local"], "weights": [1]}, r"models\.new\.weights: one per member"),
        ({"members": ["global", "local"], "detector": "knn"}, r"models\.new\.detector: a fusion has no detector"),
        ({"network": "global", "window_pooling": {"kind": "max"}}, r"models\.new\.window_pooling: only for a fitted"),
        ({"network": "local", "window_pooling": {"kind": "max"}}, r"found networks\.local\.hop 8 and test_hop 1"),
    ],
)
def test_a_model_of_keys_that_do_not_go_together_is_refused(model, message):
    with pytest.raises(InputError, match=message):
        settings.load(configuration({"models": {"new": {"title": "New", **model}}}))


@pytest.mark.parametrize(
    ("spectrum", "message"),
    [
        ({"pool": ["gwrp"]}, "pool gwrp and decays need each other"),
        ({"pool": ["mean"], "decays": [0.5]}, "pool gwrp and decays need each other"),
        ({"pool": []}, "expected at least one pooling"),
        ({"pool": ["gwrp"], "decays": [1.5]}, "less than or equal to 1"),
    ],
)
def test_a_spectrum_that_is_none_is_refused(spectrum, message):
    with pytest.raises(InputError, match=message):
        settings.load(configuration({"spectra": {"new": spectrum}}))
