"""Sound files as int16 samples at one rate.

By default a recording must be a mono 16-bit PCM wav of the right rate, which is read without any change.
`logmel.convert` takes all files that libsndfile reads (wav of any depth, FLAC, Ogg, mp3) at any rate; `logmel.channel`
takes recordings with several channels.
"""

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from asd.errors import InputError
from asd.settings import LogMel

log = logging.getLogger(__name__)

FULL_SCALE = 32768
"""The absolute value of the int16 sample that stands for -1.0."""

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Suffixes of the names of recordings."""

SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
"""Bytes per sample of a wav, by libsndfile's name of the format."""


def read(path: Path, settings: LogMel) -> np.ndarray:
    """Read a recording.

    Samples are rounded to the nearest of the 65536 levels. Samples beyond full scale (in floating-point files, or after
    resampling) are set to full scale.

    Returns:
        (samples,) int16 at the rate of the settings.

    Raises:
        InputError: the file is missing, empty or truncated, has samples that are not numbers, or is not as the settings
            require.
    """
    with _opened(path, settings) as sound:
        if _is_native(sound, settings):
            return sound.read(dtype="int16")
        mono = _mono(_decoded(path, sound), settings)
        if (peak := np.abs(mono).max()) > 1:
            log.warning("%s: the peak is %.2f of full scale; samples above 1 are clipped", path, peak)
        return to_int16(_resampled(mono, sound.samplerate, settings.rate))


def read_float(path: Path, settings: LogMel) -> tuple[np.ndarray, int]:
    """Read a recording without resampling and rounding.

    Returns:
        (samples,) float32, full scale 1.0, and its rate in Hz.

    Raises:
        InputError: as in `read`.
    """
    with _opened(path, settings) as sound:
        return _mono(_decoded(path, sound), settings), sound.samplerate


def length(path: Path, settings: LogMel) -> int:
    """Return the number of samples that `read` would return, from the header alone.

    Raises:
        InputError: as in `read`, as far as the header shows it.
    """
    with _opened(path, settings) as sound:
        return _resampled_length(sound.frames, sound.samplerate, settings.rate)


def converted(path: Path, settings: LogMel) -> str:
    """Return what `read` changes in a recording, as a text; "" if it changes nothing."""
    with _opened(path, settings) as sound:
        if _is_native(sound, settings):
            return ""
        done = [f"{sound.format} {sound.subtype} to 16 bit"] if sound.subtype != "PCM_16" else []
        if sound.channels > 1:
            done.append(f"{settings.channel} of {sound.channels} channels")
        if sound.samplerate != settings.rate:
            done.append(f"{sound.samplerate} Hz to {settings.rate} Hz")
        return ", ".join(done) or f"{sound.format} unpacked"


def to_int16(sound: np.ndarray) -> np.ndarray:
    """Return samples in [-1, 1) as int16, rounded to the nearest level; values beyond become full scale."""
    return np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


@contextmanager
def _opened(path: Path, settings: LogMel) -> Iterator[soundfile.SoundFile]:
    expected = _expected(settings)
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: an empty file; {expected}; copy it again or remove it")
        sound = soundfile.SoundFile(path)
    except (OSError, soundfile.LibsndfileError) as error:
        kind = "sound file" if settings.convert else "wav"
        raise InputError(f"{path}: not a readable {kind} ({error}); {expected}; copy it again or remove it") from None
    with sound:
        found = f"{path}: found {sound.format} {sound.subtype}, channels: {sound.channels}, {sound.samplerate} Hz"
        if not settings.convert and (sound.samplerate != settings.rate or not _is_wav16(sound)):
            raise InputError(f"{found}; {expected}; convert it, or set logmel.convert")
        if sound.channels > 1 and settings.channel == "mono":
            raise InputError(f"{found}; {expected}; convert it, or set logmel.channel")
        if sound.channels < (settings.channel if isinstance(settings.channel, int) else 1):
            raise InputError(f"{found}; expected a channel {settings.channel}; correct logmel.channel")
        promised = _promised_frames(path, sound)
        if sound.frames < promised:
            raise InputError(
                f"{path}: truncated: found {sound.frames} samples, the header promises {promised}; copy it again"
            )
        if sound.frames == 0:
            raise InputError(f"{path}: found no samples; {expected} with sound in it; copy it again or remove it")
        yield sound


def _expected(settings: LogMel) -> str:
    channels = ", mono" if settings.channel == "mono" else ""
    if settings.convert:
        return f"expected a wav, FLAC, Ogg or mp3{channels}"
    return f"expected a wav, 16-bit PCM{channels}, {settings.rate} Hz"


def _is_wav16(sound: soundfile.SoundFile) -> bool:
    return (sound.format, sound.subtype) in (("WAV", "PCM_16"), ("WAVEX", "PCM_16"))


def _is_native(sound: soundfile.SoundFile, settings: LogMel) -> bool:
    return _is_wav16(sound) and sound.channels == 1 and sound.samplerate == settings.rate


def _promised_frames(path: Path, sound: soundfile.SoundFile) -> int:
    """Samples per channel according to the header of a wav; libsndfile silently uses the number that is there."""
    if sound.format not in ("WAV", "WAVEX") or sound.subtype not in SAMPLE_BYTES:
        return 0  # libsndfile knows the end of the other formats, or `_decoded` finds it
    with path.open("rb") as file:
        file.seek(12)  # "RIFF", size, "WAVE"
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                return size // (SAMPLE_BYTES[sound.subtype] * sound.channels)
            file.seek(size + size % 2, 1)
    return 0


def _decoded(path: Path, sound: soundfile.SoundFile) -> np.ndarray:
    """(samples, channels) float32."""
    try:
        read = sound.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: truncated or damaged ({error}); copy it again or remove it") from None
    if len(read) < sound.frames:
        raise InputError(
            f"{path}: truncated: found {len(read)} samples, the header promises {sound.frames}; copy it again"
        )
    if not np.isfinite(read).all():
        row = int((~np.isfinite(read)).any(1).argmax())
        raise InputError(
            f"{path}: sample {row} is {read[row].tolist()}; expected numbers; record it again or remove it"
        )
    return read


def _mono(sound: np.ndarray, settings: LogMel) -> np.ndarray:
    """(samples, channels) -> (samples,): the mean of the channels, or the chosen channel."""
    return sound[:, settings.channel - 1] if isinstance(settings.channel, int) else sound.mean(1)


def _resampled(sound: np.ndarray, found: int, rate: int) -> np.ndarray:
    if found == rate:
        return sound
    import soxr

    samples = _resampled_length(len(sound), found, rate)
    resampled = soxr.resample(sound, found, rate, "HQ")[:samples]
    return np.pad(resampled, (0, samples - len(resampled)))


def _resampled_length(samples: int, found: int, rate: int) -> int:
    return max(1, (2 * samples * rate + found) // (2 * found))  # to the nearest
