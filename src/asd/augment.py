"""Augmentation of whole batches on their device: mixup, masks, crops, faults, and the equaliser of the waveform.

Random numbers are drawn on the generator's device and copied to that of the data: with a generator on the CPU the same
seed gives the same augmentation on every device.
"""

import math
import random

import numpy as np
import torch
from torch import Tensor

from asd.errors import InputError
from asd.settings import Equaliser, Faults


def mixup(x: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each clip with another of its batch: weight * x + (1 - weight) * x[partner].

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018: weight from Beta(alpha, alpha), here one per
    pair instead of one per batch. A clip's own label is the dominant one if weight >= 0.5.

    Args:
        x: (batch, mels, frames) float32.
        alpha: parameter of the Beta distribution, above 0.
        generator: draws partners and weights.

    Returns:
        mixed (batch, mels, frames); partner (batch,) int64, a permutation; weight (batch,) float32, from 0 to 1.

    Raises:
        ValueError: alpha is not above 0.
    """
    if not alpha > 0:
        raise ValueError(f"mixup needs alpha > 0; found {alpha}")
    partner = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device, non_blocking=x.is_cuda)
    weight = _beta(alpha, len(x), generator).to(x.device, non_blocking=x.is_cuda)
    return torch.lerp(x[partner], x, weight[:, None, None]), partner, weight


def _beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """`count` draws from Beta(alpha, alpha), as G1 / (G1 + G2) with two draws from Gamma(alpha).

    torch.distributions accepts no generator. The computation uses logarithms and Gamma(alpha) = Gamma(alpha + 1)
    U^(1 / alpha), so that no alpha is too small for float32.
    """
    shape, device = (2, count), generator.device
    gamma = torch._standard_gamma(torch.full(shape, alpha + 1.0, device=device), generator=generator)
    uniform = 1 - torch.rand(shape, generator=generator, device=device)  # above 0
    first, second = gamma.log() + uniform.log() / alpha
    return torch.sigmoid(first - second)


def mask(x: Tensor, count: int, width: int, axis: int, generator: torch.Generator) -> Tensor:
    """Set `count` random ranges of each clip to 0, the mean of standardised input.

    Park et al., "SpecAugment", Interspeech 2019, section 2: the width is uniform from 0 to `width`, then the start is
    uniform among those at which the mask fits. Masks may overlap.

    Args:
        x: (batch, mels, frames).
        count: masks per clip.
        width: the largest width of a mask, in mel bins or frames; limited to the length of the axis.
        axis: 1 masks mel bins, 2 masks frames.
        generator: draws widths and starts.

    Returns:
        (batch, mels, frames); `x` itself if there is nothing to mask.

    Raises:
        ValueError: there is no such axis.
    """
    if axis not in (1, 2):
        raise ValueError(f"axis is 1 (mel bins) or 2 (frames); found {axis}")
    size, device = x.shape[axis], generator.device
    width = min(width, size)
    if count == 0 or width == 0:
        return x
    shape = (len(x), count, 1)
    widths = torch.randint(0, width + 1, shape, generator=generator, device=device)
    uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    starts = (uniform * (size - widths + 1)).long()
    steps = torch.arange(size, device=device)
    masked = ((starts <= steps) & (steps < starts + widths)).any(1).to(x.device, non_blocking=x.is_cuda)
    return x.masked_fill(masked.unsqueeze(3 - axis), 0)


def crop(x: Tensor, window: int, generator: torch.Generator) -> Tensor:
    """Cut `window` consecutive frames from each clip; all possible starts are equally likely.

    Args:
        x: (batch, mels, frames).
        window: number of frames to keep.
        generator: draws the starts.

    Returns:
        (batch, mels, window).

    Raises:
        InputError: the clips have fewer frames than the window.
    """
    batch, _, frames = x.shape
    if frames < window:
        raise InputError(
            f"window: {window} frames, but the clips have only {frames}; choose a window of at most {frames} frames"
        )
    starts = torch.randint(0, frames - window + 1, (batch,), generator=generator, device=generator.device)
    starts = starts.to(x.device, non_blocking=x.is_cuda)
    return x.unfold(2, window, 1)[torch.arange(batch, device=x.device), :, starts]


def faults(x: Tensor, settings: Faults, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give some clips of a batch a fault: a band whose level changes.

    The change in dB is g · b(mel) · e(frame). The band b is exp(-(mel - c)² / 2w²), its centre c uniform over the mel
    bins, its width w log-uniform from 1 to a seventh of them. The course e is, each in a third of the clips, steady
    (1); pulsed (1 in 30 % of each period of 3 to 24 frames, else 0); or one to three bursts of 2 to 5 frames. The gain
    g is log-uniform from a fifth of `settings.gain` to all of it; it is doubled for pulses and bursts, and negative in
    three of ten steady faults. The faults are not modelled on those of any machine.

    Learning to tell clips with generated changes from those without is an old idea of the field: Inoue et al.,
    "Detection of anomalous sounds for machine condition monitoring using classification confidence", DCASE 2020;
    Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", ICLR 2019.

    Args:
        x: (batch, mels, frames) in dB.
        settings: the share of the clips, and the gain.
        generator: draws the clips and their faults.

    Returns:
        (batch, mels, frames), and (batch,) bool: which clips got a fault.
    """
    (batch, mels, frames), device = x.shape, generator.device

    def draw(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, device=device)

    chosen = draw() < settings.probability
    kind = torch.randint(0, 3, (batch, 1), generator=generator, device=device)
    centre, width = draw(1) * mels, (mels / 7) ** draw(1)
    band = torch.exp(-0.5 * ((torch.arange(mels, device=device) - centre) / width) ** 2)
    frame = torch.arange(frames, device=device)
    period = 3 * 8 ** draw(1)
    pulses = ((frame + draw(1) * period) % period < 0.3 * period).float()
    start, length = (draw(3) * frames).long(), 2 + (4 * draw(3)).long()
    present = torch.arange(3, device=device) < 1 + (3 * draw(1)).long()
    since = frame - start[:, :, None]
    bursts = ((since >= 0) & (since < length[:, :, None]) & present[:, :, None]).any(1).float()
    course = torch.where(kind == 0, torch.ones_like(pulses), torch.where(kind == 1, pulses, bursts))
    gain = settings.gain / 5 * 5 ** draw(1)
    gain = torch.where(kind == 0, torch.where(draw(1) < 0.3, -gain, gain), 2 * gain) * chosen[:, None]
    change = (gain * band)[:, :, None] * course[:, None, :]
    return x + change.to(x.device, non_blocking=x.is_cuda), chosen.to(x.device, non_blocking=x.is_cuda)


def draw_equalisers(count: int, settings: Equaliser, rate: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw parameters of audiomentations' SevenBandParametricEQ, by its own code.

    That code draws from the global random states of Python and NumPy, which are seeded and restored here.

    Args:
        count: number of clips.
        settings: probability, and largest gain and attenuation of a band in dB.
        rate: sample rate in Hz.
        seed: from 0 to 2**32 - 1.

    Returns:
        chosen (count,) bool: the clips to equalise. bands (count, 7, 3) float64: low shelf, five peaks and high
        shelf of each clip, chosen or not, each as centre in Hz, gain in dB and Q. Both on the CPU.

    Raises:
        InputError: a peak may lie above half the rate, where audiomentations' filter is unstable.
    """
    from audiomentations import SevenBandParametricEQ

    equaliser = SevenBandParametricEQ(min_gain_db=-settings.gain, max_gain_db=settings.gain, p=settings.probability)
    highest = max(peak.max_center_freq for peak in equaliser.peaking_filters)
    if rate <= 2 * highest:
        raise InputError(
            f"equaliser: its peaks reach {highest:g} Hz, so it needs a rate above {2 * highest:g} Hz; found {rate} Hz. "
            "Set equaliser.probability to 0, or use recordings of a higher rate"
        )
    filters = [equaliser.low_shelf_filter, *equaliser.peaking_filters, equaliser.high_shelf_filter]
    chosen = np.empty(count, dtype=bool)
    bands = np.empty((count, len(filters), 3))
    silence = np.zeros(1, dtype=np.float32)  # a required argument that does not affect what is drawn
    states = random.getstate(), np.random.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        for clip in range(count):
            equaliser.randomize_parameters(silence, rate)
            chosen[clip] = equaliser.parameters["should_apply"]
            bands[clip] = [[one.parameters[key] for key in ("center_freq", "gain_db", "q_factor")] for one in filters]
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return torch.from_numpy(chosen), torch.from_numpy(bands)


def equalise(waveform: Tensor, bands: Tensor, rate: int) -> Tensor:
    """Equalise each clip with its own seven filters, as audiomentations' SevenBandParametricEQ does.

    The filters are combined into one impulse response of at least one second, which is applied by FFT with the same
    length of zero padding, so that nothing wraps around. With gains of 12 dB all filters have decayed below -150 dB by
    then, except for a high shelf whose centre is within about 100 Hz of half the rate (or moved there): it keeps
    oscillating at half the rate. audiomentations starts each filter as if the signal had always had the value of its
    first sample. Therefore the first sample is subtracted here, and added again times the gain at 0 Hz. As in
    audiomentations, levels are neither renormalised nor clipped. The transforms are computed in double precision: the
    rounding errors of single precision are relative to a clip's loudest sample, and would be 0.01 dB in quiet parts
    between impacts.

    Args:
        waveform: (batch, samples); int16 is divided by 32768, floating types are used as they are.
        bands: (batch, 7, 3), from `draw_equalisers`.
        rate: sample rate in Hz.

    Returns:
        (batch, samples) float32.
    """
    scale = 1 / 32768 if waveform.dtype == torch.int16 else 1.0
    waveform = waveform.double() * scale
    samples = waveform.shape[1]
    taps = 2 ** math.ceil(math.log2(rate))
    length = taps * (1 + math.ceil(samples / taps))  # a small multiple of a power of two makes the FFT fast
    response = frequency_response(bands, rate, taps, waveform.device)
    impulse = torch.fft.irfft(response.to(torch.complex128), n=taps)
    first = waveform[:, :1]
    spectrum = torch.fft.rfft(waveform - first, n=length)
    spectrum *= torch.fft.rfft(impulse, n=length)
    return (torch.fft.irfft(spectrum, n=length)[:, :samples] + first * response[:, :1].real).float()


def frequency_response(bands: Tensor, rate: int, length: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the complex gain of seven filters in series at the frequencies of an FFT.

    The filters are those of the W3C's Audio EQ Cookbook (Bristow-Johnson), bilinear transforms of analogue prototypes.
    No coefficients are needed: the gain at w radians per sample is that of the prototype at s = j tan(w / 2) /
    tan(w0 / 2). Numerator and denominator are multiplied by cos(w / 2)^2, so that they are finite at w = pi. If the
    centre of a shelf is above half the rate, it is moved to 0.9999 of half the rate, as audiomentations does.

    Args:
        bands: (batch, 7, 3): centre in Hz, gain in dB, Q; low shelf, five peaks, high shelf.
        rate: sample rate in Hz.
        length: length of the FFT, even.
        device: device of the result.

    Returns:
        (batch, length // 2 + 1) complex64.
    """
    half = torch.arange(length // 2 + 1, dtype=torch.float64) * (math.pi / length)
    cosine, sine = half.cos(), half.sin()
    terms = torch.stack([cosine**2, cosine * sine, -(sine**2)]).to(device, torch.float32, non_blocking=True)
    prototypes = _prototypes(bands, rate).to(device, torch.float32, non_blocking=True)[..., None]
    response = torch.ones((len(bands), length // 2 + 1), dtype=torch.complex64, device=device)
    for numerator, denominator in prototypes:
        response *= _evaluate(numerator, terms) / _evaluate(denominator, terms)
    return response


def _evaluate(polynomial: Tensor, terms: Tensor) -> Tensor:
    """cos^2 (p0 + p1 s + p2 s^2) at s = j tan: p (3, batch, 1); terms (3, bins) are cos^2, cos sin and -sin^2."""
    real = torch.addcmul(polynomial[0] * terms[0], polynomial[2], terms[2])
    return torch.complex(real, polynomial[1] * terms[1])


def _prototypes(bands: Tensor, rate: int) -> Tensor:
    """Polynomials in s = j tan(w / 2): (7 filters, numerator and denominator, 3 powers from 0 up, batch), float64.

    The Cookbook's prototypes H(s), with A = 10^(gain / 40) and s in units of tan(w0 / 2):
        low shelf   A (s^2 + sqrt(A)/Q s + A) / (A s^2 + sqrt(A)/Q s + 1)
        peak        (s^2 + A/Q s + 1) / (s^2 + 1/(A Q) s + 1)
        high shelf  A (A s^2 + sqrt(A)/Q s + 1) / (s^2 + sqrt(A)/Q s + A)
    """
    centre, gain, quality = bands.unbind(-1)
    nyquist = rate // 2
    unit = torch.tan(math.pi / rate * torch.where(centre > nyquist, 0.9999 * nyquist, centre))
    a, one, linear, square = 10 ** (gain / 40), torch.ones_like(gain), 1 / (quality * unit), 1 / unit**2
    root = a.sqrt()
    low = [(a * a, a * root * linear, a * square), (one, root * linear, a * square)]
    peak = [(one, a * linear, square), (one, linear / a, square)]
    high = [(a, a * root * linear, a * a * square), (a, root * linear, square)]
    kinds = torch.stack([torch.stack([torch.stack(side) for side in kind]) for kind in (low, peak, high)])
    return torch.stack([kinds[kind, ..., band] for band, kind in enumerate([0, 1, 1, 1, 1, 1, 2])])
