"""The complete configuration: what entries inherit, and what has to fit together.

`load` turns a configuration into a validated `Settings`.
"""

from operator import attrgetter
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from asd.errors import InputError
from asd.releases import releases
from asd.settings.block import Name, Target
from asd.settings.detectors import DETECTORS, STAGED, Detectors
from asd.settings.models import Scored, Threshold
from asd.settings.networks import COMMON, NETWORKS, Backbone, Kinds, Network, Spectrum, Training, Windows
from asd.settings.recordings import Check, Dataset, LogMel
from asd.settings.results import Compute, Ensemble, Leaderboard, Metrics, Submission, Variant

HANDED_DOWN = (
    ("networks", "train", None),
    *(("networks", block, block) for block in NETWORKS.values() if block),
    ("networks", "logmel", "logmel"),
    ("networks", "backbone", "backbone"),
    *(("models", block, block) for block in DETECTORS.values()),
    ("models", "threshold", "threshold"),
)
"""The top-level blocks from which entries take the settings that they leave out: entries, block, and the entry's own
block for these settings (None: the entry itself)."""


class Settings(Detectors, Kinds):
    """The complete, effective configuration: with all defaults, and with shared settings copied into the entries.

    The blocks of the detectors and of the kinds of networks are the settings of all models and networks, except for
    those that their entries set.
    """

    dataset: Dataset = Dataset()
    machines: Annotated[list[Name], Field(min_length=1)]
    """The machines to process."""
    data_dir: Target = "data"
    """The folder of recordings, weights and log-mels, which configurations can share."""
    results_dir: Target = "results"
    """The folder of everything else that this configuration makes."""
    check: Check = Check()
    logmel: LogMel = LogMel()
    backbone: Backbone = Backbone()
    train: Training = Training()
    """Settings of all networks, except for those that their entries set."""
    networks: dict[Name, Network]
    spectra: dict[Name, Spectrum] = {}
    """Features without a network."""
    threshold: Threshold = Threshold()
    models: dict[Name, Scored]
    run_models: Annotated[list[Name], Field(min_length=1)]
    """The models to run, in the order of the rows of metrics.csv and of the report; `all`: every entry of `models`."""
    paper_models: list[Name] = []
    """The rows of the paper's six tables, from which "Our Best" and the ensemble choose: those of them that are in
    `run_models`, or all of `run_models` if none is."""
    variants: dict[Name, Variant] = {}
    """The models that a sweep made. A sweep writes this; do not set it."""
    ensemble: Ensemble = Ensemble()
    metrics: Metrics = Metrics()
    leaderboard: Leaderboard = Leaderboard()
    submission: Submission = Submission()
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if data.get("run_models") == "all" and isinstance(data.get("models"), dict):
            data["run_models"] = list(data["models"])
        dataset, threshold = data.get("dataset", {}), data.get("threshold", {})
        if isinstance(dataset, dict) and isinstance(threshold, dict):
            scope = "section" if dataset.get("kind") == "folder" else "machine"
            data["threshold"] = {"scope": scope, **threshold}
        for entries, common, inner in HANDED_DOWN:
            if not isinstance(data.get(entries), dict) or not isinstance(data.get(common, {}), dict):
                continue  # the fields' own validation says what is wrong
            data[entries] = {
                name: _inherit(entry, _for(entry, data.get(common, {}), common), inner)
                for name, entry in data[entries].items()
            }
        return data

    @model_validator(mode="after")
    def _references(self) -> "Settings":
        for key, names in (("machines", self.machines), ("run_models", self.run_models)):
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: each name once; found {names}")
        for name in self.run_models:
            if name not in self.models:
                raise ValueError(f"run_models: {name!r} is not an entry of models ({', '.join(self.models)})")
        if "all" in self.machines:
            raise ValueError("machines: 'all' is the name of a network of all machines; rename the machine")
        titles = [self.models[name].title for name in self.run_models]
        if twice := {title for title in titles if titles.count(title) > 1} | ({"Ensemble", "Our Best"} & set(titles)):
            raise ValueError(f"models: each title once, and no Ensemble or Our Best; found {sorted(twice)}")
        if "ensemble" in self.models:
            raise ValueError("models: 'ensemble' is the name of the choice between models; rename the entry")
        for name in self.models:
            self._model(name)
        if both := sorted(set(self.networks) & set(self.spectra)):
            raise ValueError(f"spectra: {both[0]!r} is an entry of networks too; rename one of them")
        if strange := [name for name in self.paper_models if name not in self.models]:
            raise ValueError(f"paper_models: {strange[0]!r} is not an entry of models ({', '.join(self.models)})")
        if self.train.kind != "efficientnet":
            raise ValueError(f"train.kind: found {self.train.kind!r}; each entry of networks has its own")
        for block in filter(None, NETWORKS.values()):
            if getattr(self.train, block) != type(self.train).model_fields[block].default:
                raise ValueError(f"train.{block}: this block is at the top of the configuration: {block}")
        for name, network in self.networks.items():
            if network.logmel.cut != self.logmel.cut:
                raise ValueError(
                    f"networks.{name}.logmel.cut: found {network.logmel.cut}, but logmel.cut is {self.logmel.cut}; all "
                    "models score the same clips: set it in the top-level logmel only"
                )
            if network.strange:
                raise ValueError(
                    f"networks.{name}.{network.strange[0]}: this is a setting of the kind efficientnet; those of the "
                    f"kind {network.kind} are in networks.{name}.{NETWORKS[network.kind]}"
                )
            self.warm_starts(name)
        if strange := sorted(set(self.variants) - set(self.models)):
            raise ValueError(f"variants: {strange[0]!r} is not an entry of models; only a sweep writes this; remove it")
        for name in self.submission.models:
            if name not in (*self.run_models, "ensemble"):
                raise ValueError(f"submission.models: {name!r} is not in run_models ({', '.join(self.run_models)})")
        strangers = self.leaderboard.submissions
        ours = {*self.models, *(one.title for one in (*self.models.values(), *self.variants.values()))}
        if twice := [name for name in strangers if name in ours]:
            raise ValueError(f"leaderboard.submissions: {twice[0]!r} is the name of a model; call the system otherwise")
        if strange := [name for name in self.leaderboard.chosen_by_labels if name not in (*self.models, *strangers)]:
            raise ValueError(
                f"leaderboard.chosen_by_labels: {strange[0]!r} is not an entry of models or of leaderboard.submissions"
            )
        fallback = self.ensemble.fallback
        if fallback and fallback not in self.run_models:
            raise ValueError(f"ensemble.fallback: {fallback!r} is not in run_models ({', '.join(self.run_models)})")
        if self.dataset.kind == "folder" and not self.dataset.folder.path:
            raise ValueError("dataset.folder.path: needed with kind: folder; found nothing")
        if self.dataset.is_published:
            for machine in self.machines:
                releases(self.dataset.kind, machine, self.dataset.published.parts)
        return self

    def _model(self, name: str) -> None:
        """Refuse an entry of `models` whose keys do not go together."""
        model, where = self.models[name], f"models.{name}"
        kinds = [kind for kind in ("network", "spectrum", "members") if getattr(model, kind)]
        if len(kinds) != 1:
            raise ValueError(f"{where}: exactly one of network, spectrum and members is needed; found {kinds}")
        for kind, entries in (("network", self.networks), ("spectrum", self.spectra)):
            if (entry := getattr(model, kind)) and entry not in entries:
                known = {"network": "networks", "spectrum": "spectra"}[kind]
                raise ValueError(f"{where}.{kind}: {entry!r} is not an entry of {known} ({', '.join(entries)})")
        if model.members and model.detector != "gaussian":
            raise ValueError(f"{where}.detector: a fusion has no detector, only its members have; remove the key")
        if model.network and model.detector == "exposure" and not self.networks[model.network].classifies:
            raise ValueError(
                f"{where}.detector: exposure needs a classifier of sections; a network of kind "
                f"{self.networks[model.network].kind} has none"
            )
        if model.spectrum and model.detector == "exposure":
            raise ValueError(f"{where}.detector: exposure needs the classifier of a network; a spectrum has none")
        block = DETECTORS.get(model.detector, "")
        if model.network and block in STAGED:
            last, found = self.networks[model.network].stages, getattr(model, block).stages[-1]
            if found > last > 1:
                raise ValueError(
                    f"{where}.{block}.stages: found stage {found}; the network {model.network} ends with stage {last}"
                )
        if model.spectrum:
            for block in STAGED:
                if getattr(model, block).stages != getattr(self, block).stages:
                    raise ValueError(f"{where}.{block}.stages: these are stages of a network; a spectrum has none")
        if model.domains == "nearest" and (not model.fitted or not model.fit.own.tells_domains):
            telling = [one for one, own in DETECTORS.items() if getattr(self, own).tells_domains]
            raise ValueError(f"{where}.domains: nearest is for the detectors {' and '.join(telling)}")
        for member in model.members:
            if member not in self.models or self.models[member].members:
                raise ValueError(f"{where}.members: {member!r} is not an entry of models with a network or a spectrum")
        if len(set(model.members)) < len(model.members) or len(model.members) == 1:
            raise ValueError(f"{where}.members: at least two, each once; found {model.members}")
        if model.weights and (
            len(model.weights) != len(model.members) or model.fuse != "mean" or not sum(model.weights)
        ):
            raise ValueError(f"{where}.weights: one per member, not all 0, and with fuse: mean; found {model.weights}")
        window = self.networks[model.network].windows if model.network else Windows()
        if model.window_pooling.kind != "mean":
            if not window.window or model.detector == "exposure":
                raise ValueError(f"{where}.window_pooling: only for a fitted detector on a network that sees windows")
            if window.hop != window.test_hop:
                raise ValueError(
                    f"{where}.window_pooling: the pooled score grows with the number of windows, so training and test "
                    f"clips need the same hop; found networks.{model.network}.hop {window.hop} and test_hop "
                    f"{window.test_hop}"
                )

    def warm_starts(self, name: str) -> list[str]:
        """Return the networks with which the training of `name` begins, nearest first.

        Raises:
            ValueError: there is no such network, they form a circle, or they differ in what they must share.
        """
        chain = [name]
        while start := self.networks[chain[-1]].warm_start:
            if start not in self.networks:
                raise ValueError(
                    f"networks.{chain[-1]}.warm_start: {start!r} is not an entry of networks "
                    f"({', '.join(self.networks)})"
                )
            if start in chain:
                raise ValueError(f"networks.{name}.warm_start: these form a circle: {' -> '.join([*chain, start])}")
            for key in ("scope", "backbone.name", "last_stage", "bands"):
                own, other = (attrgetter(key)(self.networks[one]) for one in (name, start))
                if own != other:
                    raise ValueError(
                        f"networks.{name}.warm_start: {name} has {key} {own}, {start} has {other}; give both the same"
                    )
            chain.append(start)
        return chain[1:]

    def trained_as(self, network: str) -> str:
        """Return the first entry of `networks` with the same training as this one: they share one trained network."""

        def training(name: str) -> list:
            chain = [self.networks[one] for one in (name, *self.warm_starts(name))]
            return [(one.training, one.logmel, one.backbone) for one in chain]

        mine = training(network)
        return next(name for name in self.networks if training(name) == mine)

    @property
    def fallback(self) -> str:
        """The model of machines without labels."""
        fusions = [name for name in self.run_models if self.models[name].members]
        return self.ensemble.fallback or (fusions or self.chosen_from)[0]

    @property
    def submitted(self) -> list[str]:
        """The systems of a submission."""
        return self.submission.models or [*self.chosen_from, "ensemble"]

    @property
    def chosen_from(self) -> list[str]:
        """The models that the ensemble chooses from, which are the rows of the paper's tables."""
        return [name for name in self.paper_models if name in self.run_models] or self.run_models


def _for(entry: Any, block: dict, name: str) -> dict:
    """The keys of a common block that an entry takes: of `train`, networks that are no efficientnet take a few."""
    if name != "train":
        return block
    other = isinstance(entry, dict) and entry.get("kind", "efficientnet") != "efficientnet"
    return {key: value for key, value in block.items() if key != "kind" and (key in COMMON or not other)}


def _inherit(entry: Any, common: dict, inner: str | None) -> Any:
    """An entry merged into the common block; `inner` names its own block for it, None means the entry itself."""
    if not isinstance(entry, dict):
        return entry
    if inner is None:
        return _merge(common, entry)
    own = entry.get(inner, {})
    return {**entry, inner: _merge(common, own)} if isinstance(own, dict) else entry


def _merge(below: dict, above: dict) -> dict:
    """Mappings merged key by key; values of `above` have precedence."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def load(configuration: dict) -> Settings:
    """Validate a configuration.

    Args:
        configuration: the content of config.yaml with its overlays (Snakemake's `config`).

    Raises:
        InputError: a key is unknown, or a value has a wrong type or is impossible; the message names each key.
    """
    try:
        return Settings.model_validate(configuration)
    except ValidationError as error:
        errors = error.errors()
        at = {one["loc"] for one in errors}
        own = [one for one in errors if not any(origin in at for origin in _origins(one["loc"]))]
        raise InputError("configuration:\n" + "\n".join(_complaint(one) for one in own)) from None


def _origins(where: tuple) -> list[tuple]:
    """The keys from which a key of an entry may have been copied."""
    return [
        (common, *where[2 + bool(inner) :])
        for entries, common, inner in HANDED_DOWN
        if where[:1] == (entries,) and (inner is None or where[2:3] == (inner,))
    ]


def _complaint(error: dict) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"  {where}: unknown key; is it misspelt, or in another block?"
    message = error["msg"].removeprefix("Value error, ")
    if not where:
        return f"  {message}"
    of_a_block = error["type"] == "value_error" and isinstance(error["input"], dict)  # it says what it found itself
    found = "" if error["type"] == "missing" or of_a_block else f"; found {error['input']!r}"
    return f"  {where}: {message}{found}"
