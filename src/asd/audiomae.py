"""AudioMAE, a transformer that was pre-trained on AudioSet, as it is: it does not learn here.

    waveform of 16 kHz -> Kaldi's log mel filter bank (1024 frames, 128 bins), standardised -> patches of 16 by 16
    patches -> transformer -> one vector per patch -> mean over the clip's patches: the features

Huang et al., "Masked Autoencoders that Listen", NeurIPS 2022 (arXiv:2207.06405). The transformer is timm's, which has
the names of the published tensors. Its input is that of the published code, and so is the padding of shorter clips by
zeros. Two things differ: patches that see nothing but padding are left out of the mean, and a longer clip is not cut
off, but its features are the mean over pieces of 10.255 s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from asd.cache import Cache, Joined
from asd.checkpoint import Checkpoint
from asd.loop import Epoch, training_clips
from asd.network import make_backbone
from asd.settings import AUDIO_RATE, LogMel, Training
from asd.soundfiles import FULL_SCALE
from asd.waveform import pieces

WINDOW, HOP, FFT = 400, 160, 512
"""Samples of a window (25 ms), from one window to the next (10 ms), and of the Fourier transform."""

PRE_EMPHASIS = 0.97

LOWEST = 20
"""Hz, where the lowest mel bin begins. The highest one ends at half the sample rate."""

FLOOR = torch.finfo(torch.float32).eps
"""The least energy of a mel bin."""

MEAN, DEVIATION = -4.2677393, 2 * 4.5689974
"""By which the published networks standardise: the mean and twice the deviation of AudioSet."""

AT_ONCE = 64
"""Clips that go through the transformer together. All clips have as many patches, however short they are, so that a
large batch of short ones, as on a GPU, would take tens of GB."""


@dataclass(frozen=True)
class Description:
    """Everything that is needed to build a network again, except for its tensors."""

    backbone: str
    """The architecture: timm's name with frames and mel bins, such as vit_base_patch16_1024_128."""
    machine: str
    """The machine for which it was written, or `asd.network.ALL`."""
    samples: int
    """Samples of a clip."""
    fine_tuned: bool
    """Whether the mean over patches is normalised, as after fine-tuning, or each patch, as after pre-training."""
    pool: str
    """clip: a mean over all patches. bands: one for each band of 16 mel bins, side by side, the lowest first."""
    settings: str
    """The settings of the network, as flags."""
    kind: str = "audiomae"
    """Its name in `asd.kinds`."""


class Network(nn.Module):
    """The transformer without the decoder of its pre-training and without classifier."""

    hears = "waveform"

    def __init__(self, description: Description) -> None:
        super().__init__()
        self.description = description
        self.backbone = make_backbone(description.backbone, fine_tuned=description.fine_tuned)
        (self.frames, self.mels), (self.patch, _) = (
            getattr(self.backbone.patch_embed, size) for size in ("img_size", "patch_size")
        )
        self.filter_bank = FilterBank(self.mels)
        self.widths = [self.backbone.num_features * (self.mels // self.patch if description.pool == "bands" else 1)]
        """The number of features."""

    @property
    def longest(self) -> int:
        """The samples of a clip that fills all frames."""
        return WINDOW + HOP * (self.frames - 1)

    def embed(self, waveform: Tensor) -> Tensor:
        """Return the features of waveforms (batch, samples) of full scale 1: (batch, `widths`) float32.

        A longer waveform is cut into pieces, whose features are averaged.
        """
        return torch.cat([self._embedded(part) for part in waveform.split(AT_ONCE)])

    def _embedded(self, waveform: Tensor) -> Tensor:
        starts = pieces(waveform.shape[1], self.longest)
        return sum(self._piece(waveform[:, start : start + self.longest]) for start in starts) / len(starts)

    def _piece(self, waveform: Tensor) -> Tensor:
        bank = self.filter_bank(waveform)
        padded = nn.functional.pad(bank, (0, 0, 0, self.frames - bank.shape[1]))
        tokens = self.backbone.forward_features(((padded - MEAN) / DEVIATION)[:, None])
        patches = tokens[:, self.backbone.num_prefix_tokens :].unflatten(1, self.backbone.patch_embed.grid_size)
        heard = patches[:, : -(-bank.shape[1] // self.patch)]  # (batch, time, bands, values)
        means = heard.mean(1) if self.description.pool == "bands" else heard.mean((1, 2))
        return self.backbone.fc_norm(means).flatten(1)

    def vectors(self, waveform: Tensor) -> Tensor:
        """Return the features of waveforms (batch, samples) int16: (batch, `widths`) float32."""
        return self.embed(waveform.float() / FULL_SCALE)

    def for_scoring(self) -> "Network":
        """Return the network itself."""
        return self


class FilterBank(nn.Module):
    """Kaldi's log mel filter bank with the options of AudioMAE.

    The mean of the waveform is removed, then that of each window. A window is pre-emphasised and multiplied by a Hann
    window; the triangles are linear on the mel scale 1127 ln(1 + f / 700). Povey et al., "The Kaldi Speech Recognition
    Toolkit", ASRU 2011.
    """

    def __init__(self, mels: int) -> None:
        super().__init__()
        ends = mel(torch.tensor([LOWEST, AUDIO_RATE / 2], dtype=torch.float64)).tolist()
        edges = torch.linspace(*ends, mels + 2, dtype=torch.float64)
        at = mel(torch.arange(FFT // 2 + 1, dtype=torch.float64) * AUDIO_RATE / FFT)[:, None]
        rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
        triangles = torch.minimum(rising, falling).clamp(min=0).float()  # (FFT / 2 + 1, mels)
        self.register_buffer("triangles", triangles, persistent=False)
        self.register_buffer("hann", torch.hann_window(WINDOW, periodic=False), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the natural logarithms of the energies, (batch, frames, mels) float32.

        Args:
            waveform: (batch, samples) float32, full scale at 1, at 16 kHz. Less than a window is padded by zeros.
        """
        centred = waveform - waveform.mean(1, keepdim=True)
        centred = nn.functional.pad(centred, (0, max(WINDOW - centred.shape[1], 0)))
        windows = centred.unfold(1, WINDOW, HOP)
        windows = windows - windows.mean(2, keepdim=True)
        before = torch.cat([windows[..., :1], windows[..., :-1]], 2)
        power = torch.fft.rfft((windows - PRE_EMPHASIS * before) * self.hann, FFT).abs().square()
        return (power @ self.triangles).clamp(min=FLOOR).log()


def mel(frequency: Tensor) -> Tensor:
    """Return frequencies in Hz on Kaldi's mel scale."""
    return 1127 * (1 + frequency / 700).log()


@dataclass(frozen=True)
class Nothing:
    """What a network learns from that does not learn."""


def prepared(
    start: tuple[dict[str, Tensor], dict[str, str]],
    cache: Cache | Joined,
    settings: Training,
    path: Path | None,
    device: torch.device,
) -> tuple[Network, Nothing]:
    """Return the network with its pre-trained weights, on the device. Nothing is needed to train it.

    Args:
        start: tensors and metadata of the file of weights.
        cache: an open log-mel cache, or with scope `all` those of all machines.
        settings: of the network.
        path: not used.
        device: where the network computes.

    Raises:
        InputError: there are no training clips.
    """
    tensors, metadata = start
    description = Description(
        backbone=metadata["backbone"],
        machine=training_clips(cache, settings.scope)[1],
        samples=cache.samples,
        fine_tuned="fc_norm.weight" in tensors,
        pool=settings.audiomae.pool,
        settings=settings.flags,
    )
    network = Network(description)
    network.backbone.load_state_dict(tensors)
    return network.eval().to(device), Nothing()


def train(
    network: Network,
    data: Nothing,
    settings: Training,
    logmel: LogMel,
    report: Callable[[Epoch, int], None] = lambda epoch, epochs: None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Leave the network as it is, and return a curve without epochs.

    Args:
        network: as `prepared` returns it.
        data: nothing.
        settings: not used.
        logmel: not used.
        report: not used.
        checkpoint: not used.
    """
    return []
