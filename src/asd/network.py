"""An EfficientNet (Tan and Le, ICML 2019) on three equal channels, its nine stages or the first of them, and two heads.

The backbone can be any other convolutional network of timm, with the stages that timm lists for it.

    log-mel (batch, mels, frames) -> standardise -> backbone -> stages
    stages -> averages over time and per frequency band -> feature vector        for the detectors
    last stage, averaged so -> minus its centre: embedding -> section, attribute for training and CNN-OE

With nine stages, one band and a centre of 0 this is the paper's network: 2096 features, an embedding of 1280 values.

A network file is safetensors: the state (backbone with timm's names, heads, AdaCos scales, input statistics) and, as
metadata, JSON texts that describe it: backbone, labels, settings.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from asd.errors import InputError
from asd.files import written
from asd.losses import AdaCos
from asd.settings import audio_shape

ALL = "all"
"""Stands for the machine in a network that learns from all machines."""


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a network again, except for its tensors."""

    backbone: str
    """timm's name of the architecture."""
    machine: str
    """The machine that it learns from, or `ALL`."""
    bins: int
    """Number of means and deviations of the input: the number of mel bins, or 1."""
    section_labels: tuple[str, ...]
    """Classes of the section head, in order; altered clips have classes of their own."""
    attribute_labels: tuple[str, ...]
    """Classes of the attribute head, in order."""
    settings: str
    """The settings that the network was trained with, as JSON."""
    mels: int = 224
    """Mel bins of the log-mels."""
    last_stage: int = 9
    """The stage with which it ends, 2 to 9."""
    bands: int = 1
    """Number of frequency bands over which each stage is averaged."""
    kind: str = "efficientnet"
    """Its name in `asd.kinds`."""

    def section_label(self, machine: str, section: str) -> str:
        """Return the class of a clip: its section; in a network of all machines its machine and section, "fan 00"."""
        return class_name(self.machine, machine, section)


def class_name(scope: str, machine: str, label: str) -> str:
    """Return a clip's class in a network: its label; in a network of all machines after its machine, "fan 00".

    Args:
        scope: the machine of the network, or `ALL`.
        machine: of the clip.
        label: its section or attributes.
    """
    return f"{machine} {label}".rstrip() if scope == ALL else label


class Network(nn.Module):
    """A backbone with input statistics and cosine heads. If there are fewer than two classes, the head is None."""

    hears = "logmel"

    def __init__(self, description: Description, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.description = description
        self.backbone = make_backbone(description.backbone, description.last_stage)
        self.register_buffer("mean", torch.zeros(description.bins, 1))
        self.register_buffer("deviation", torch.ones(description.bins, 1))
        self.widths = self._widths()
        """The number of features of each stage."""
        self.register_buffer("centre", torch.zeros(self.widths[-1]))
        generator = generator or torch.Generator().manual_seed(0)
        self.section = self._head(description.section_labels, generator)
        self.attribute = self._head(description.attribute_labels, generator)

    def _head(self, labels: tuple[str, ...], generator: torch.Generator) -> AdaCos | None:
        return AdaCos(self.widths[-1], len(labels), generator) if len(labels) > 1 else None

    @torch.no_grad()
    def _widths(self) -> list[int]:
        """The features of each stage, found with a few frames."""
        try:
            stages = self.eval().stages(torch.zeros(1, self.description.mels, 32))
        except (AssertionError, RuntimeError) as error:  # how timm says that an image has the wrong size
            raise InputError(
                f"backbone.name: {self.description.backbone!r} does not take log-mels of {self.description.mels} mel "
                f"bins and any number of frames ({error}); take a convolutional network, such as resnet18"
            ) from None
        self.train()
        return [pooled.shape[1] for pooled in map(self.pool, stages)]

    def standardise(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return (log-mel - mean) / deviation with the statistics of the training clips: (batch, mels, frames)."""
        return (logmel - self.mean) / self.deviation

    def stages(self, standardised: torch.Tensor) -> list[torch.Tensor]:
        """Return the stages up to the last one, each (batch, channels, height, width).

        Those of an EfficientNet are the nine of the paper's Table 2. The backbone expects three equal channels. Three
        equal channels through a kernel give the same as one channel through the kernel's sum over the channels, which
        is what is computed. Other networks get three channels, and have the stages that timm lists for them.

        Args:
            standardised: (batch, mels, frames).
        """
        net = self.backbone
        if not has_nine_stages(net):
            image = standardised.unsqueeze(1).expand(-1, 3, -1, -1)
            last = self.description.last_stage
            return net.forward_intermediates(image, indices=list(range(last)), stop_early=True, intermediates_only=True)
        image = standardised.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        kernel = {"weight": net.conv_stem.weight.sum(1, keepdim=True)}
        outputs = [net.bn1(torch.func.functional_call(net.conv_stem, kernel, (image,)))]
        for block in net.blocks:
            outputs.append(block(outputs[-1]))
        if self.description.last_stage == 9:
            outputs.append(net.bn2(net.conv_head(outputs[-1])))
        return outputs

    def pool(self, stage: torch.Tensor) -> torch.Tensor:
        """Return a stage averaged over time and per frequency band.

        With one band this is the paper's global average pooling. With more bands it is known at which frequency a
        channel responds. A stage of fewer rows than bands has one band per row.

        Args:
            stage: (batch, channels, height, width).

        Returns:
            (batch, channels · bands) float32, channel by channel, from the lowest band to the highest.
        """
        rows = stage.float().mean(3)
        return (rows @ band_means(rows.shape[2], self.description.bands).to(rows.device)).flatten(1)

    def features(self, standardised: torch.Tensor) -> torch.Tensor:
        """Return the pooled stages side by side: (batch, sum of `widths`) float32."""
        return torch.cat([self.pool(stage) for stage in self.stages(standardised)], 1)

    def vectors(self, logmel: torch.Tensor) -> torch.Tensor:
        """Return the features of log-mels (batch, mels, frames) in dB: (batch, sum of `widths`) float32."""
        return self.features(self.standardise(logmel))

    def for_scoring(self) -> "Network":
        """Return the network; that of an EfficientNet has its batch norms folded, in place."""
        return fold(self) if has_nine_stages(self.backbone) else self

    def embed(self, standardised: torch.Tensor) -> torch.Tensor:
        """Return the embedding, the pooled last stage without its centre: (batch, last of `widths`), float32."""
        return self.pool(self.stages(standardised)[-1]) - self.centre


def band_means(rows: int, bands: int) -> torch.Tensor:
    """Return the matrix (rows, bands) that averages rows over bands: band i has rows ⌊i r / b⌋ to ⌈(i + 1) r / b⌉ - 1.

    This is PyTorch's adaptive average pooling, in a form that ONNX graphs can have. With fewer rows than bands, each
    row is a band.
    """
    bands = min(bands, rows)
    matrix = torch.zeros(rows, bands)
    for band in range(bands):
        begin, end = band * rows // bands, -(-(band + 1) * rows // bands)
        matrix[begin:end, band] = 1 / (end - begin)
    return matrix


def has_nine_stages(net: nn.Module) -> bool:
    """Return whether a network of timm is an EfficientNet with the nine stages of the paper's Table 2."""
    parts = ("conv_stem", "bn1", "blocks", "conv_head", "bn2")
    return all(hasattr(net, part) for part in parts) and isinstance(net.conv_stem, nn.Conv2d)


def make_backbone(name: str, last_stage: int | None = None, fine_tuned: bool = False) -> nn.Module:
    """Build timm's network of this name up to a stage, without its classifier and with random weights.

    Args:
        name: timm's name; of an audio transformer with frames and mel bins (`asd.settings.audio_shape`).
        last_stage: the last stage that is built; None: the whole network.
        fine_tuned: of an audio transformer, whether the mean over patches is normalised, and not each patch.

    Raises:
        InputError: timm has no such network, or it has fewer stages, or none.
    """
    import timm

    audio, options = audio_shape(name), {}
    if audio:
        options = {"img_size": audio[1:], "in_chans": 1, "global_pool": "avg", "fc_norm": fine_tuned}
    try:
        net = timm.create_model(f"{audio[0]}_224" if audio else name, pretrained=False, num_classes=0, **options)
    except RuntimeError as error:
        raise InputError(f"backbone.name: timm knows no {name!r} ({error}); for example efficientnet_b1") from None
    nine = has_nine_stages(net) and len(net.blocks) == 7
    if not nine and not (hasattr(net, "forward_intermediates") and getattr(net, "feature_info", None)):
        raise InputError(f"backbone.name: timm knows no stages of {name!r}; take another one, such as efficientnet_b1")
    stages = 9 if nine else len(net.feature_info)
    if last_stage and last_stage > stages:
        raise InputError(
            f"last_stage: found {last_stage}, but {name} has {stages} stages; set networks.<name>.last_stage to "
            f"{stages} or less, and the stages of detectors (mvg.stages) likewise"
        )
    if nine and last_stage:
        net.blocks = net.blocks[: last_stage - 1]
        if last_stage < 9:
            net.conv_head = net.bn2 = nn.Identity()
    elif last_stage:
        net.prune_intermediate_layers(list(range(last_stage)), prune_norm=True, prune_head=True)
    return net.to(memory_format=torch.channels_last)


def left_out(name: str, last_stage: int) -> tuple[str, ...]:
    """Return the names of the tensors of a backbone that a network with this last stage does not have."""
    kept = make_backbone(name, last_stage).state_dict()
    return tuple(key for key in make_backbone(name).state_dict() if key not in kept)


def freeze_norms(network: Network) -> None:
    """Make the batch norms of a network use their running statistics in training, too, and keep these.

    This lasts until the next call of `train`. Scale and shift still learn. As in PyTorch's evaluation mode, each norm
    is one multiplication and one addition per channel.
    """
    for layer in network.backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()


def hold_stages(network: Network, first: int) -> None:
    """Keep the stages before `first` (from 1) unchanged in training: their weights and the batch norms' statistics.

    Their gradients are not computed either. This lasts until the next call of `train` and `requires_grad_`.

    Raises:
        InputError: the network ends before.
    """
    net = network.backbone
    if first > network.description.last_stage:
        raise InputError(
            f"train.first_stage: found {first}, but the network ends with stage {network.description.last_stage}"
        )
    if not has_nine_stages(net):
        if first > 1:
            _hold_up_to(net, net.feature_info[first - 2]["module"])
        return
    stages = ((net.conv_stem, net.bn1), *((block,) for block in net.blocks), (net.conv_head, net.bn2))
    for part in (part for stage in stages[: first - 1] for part in stage):
        part.requires_grad_(False).eval()


def _hold_up_to(net: nn.Module, last: str) -> None:
    """Keep the layers of a network of timm unchanged in training, from the first to the module of this name."""
    names = [name for name, _ in net.named_modules()]
    end = max(place for place, name in enumerate(names) if name == last or name.startswith(f"{last}."))
    for _, module in list(net.named_modules())[: end + 1]:
        module.training = False  # of this layer alone, since a container may have later ones, too
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)


def fold(network: Network) -> Network:
    """Multiply a network's batch norms into the convolutions before them, in place, and return the network.

    For networks that are not trained any more. The result is the same up to rounding, without the time of the norms.
    """
    for module in network.backbone.modules():
        convolution = None
        for name, layer in list(module.named_children()):  # in timm's order: each norm follows its convolution
            if isinstance(layer, nn.Conv2d):
                convolution = layer
            elif isinstance(layer, nn.BatchNorm2d):
                convolution.weight, convolution.bias = fuse_conv_bn_weights(
                    convolution.weight, convolution.bias, *_statistics(layer)
                )
                setattr(module, name, nn.Sequential(layer.drop, layer.act))
    return network


def _statistics(norm: nn.BatchNorm2d) -> tuple:
    return norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias


def save(path: Path, network: nn.Module) -> None:
    """Write a network of any kind (`asd.kinds`) with its description."""
    metadata = {"content": "network", **{key: json.dumps(value) for key, value in asdict(network.description).items()}}
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with written(path) as aside:
        safetensors.torch.save_file(state, aside, metadata)


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a weights or network file.

    Raises:
        InputError: not a safetensors file, damaged, or not written by this project.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); delete it and run again") from None
    if metadata.get("content") not in ("weights", "network"):
        raise InputError(f"{path}: found no metadata 'content'; expected a file that the weights or train stage wrote")
    return tensors, metadata
