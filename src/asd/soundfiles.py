"""Recordings: sound files as int16 samples at one rate.

Unless the settings say otherwise a recording must be a mono 16-bit PCM wav of the right rate, which is then read bit
for bit. `logmel.convert` takes whatever libsndfile reads (wav of any depth, FLAC, Ogg, mp3) at any rate;
`logmel.channel` takes recordings of several channels.
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
"""The int16 sample that is -1.0."""

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""What recordings are called."""

SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
"""Bytes of a sample of a wav, by libsndfile's name."""


def read(path: Path, settings: LogMel) -> np.ndarray:
    """Read a recording: (samples,) int16 at the settings' rate.

    Samples beyond full scale (float files, and what resampling overshoots) become full scale; those between two
    of the 65536 levels, the nearest.

    Raises:
        InputError: not there, empty, truncated, with samples that are no numbers, or not as the settings want it.
    """
    with _opened(path, settings) as sound:
        if _is_native(sound, settings):
            return sound.read(dtype="int16")
        mono = _mono(_decoded(path, sound), settings)
        if (peak := np.abs(mono).max()) > 1:
            log.warning("%s: goes to %.2f of full scale, cut off at 1", path, peak)
        return to_int16(_resampled(mono, sound.samplerate, settings.rate))


def read_float(path: Path, settings: LogMel) -> tuple[np.ndarray, int]:
    """Read a recording as it is, before it is resampled and rounded: (samples,) float32, 1.0 full scale, and its rate.

    Raises:
        InputError: as `read` does.
    """
    with _opened(path, settings) as sound:
        return _mono(_decoded(path, sound), settings), sound.samplerate


def length(path: Path, settings: LogMel) -> int:
    """The number of samples that `read` returns, by the header, with the checks that this allows; raises as it does."""
    with _opened(path, settings) as sound:
        return _resampled_length(sound.frames, sound.samplerate, settings.rate)


def converted(path: Path, settings: LogMel) -> str:
    """What `read` does to a recording, in words; "" where it is read bit for bit."""
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
    """Samples in [-1, 1) as int16, rounded to the nearest; what lies beyond is full scale."""
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
    """The samples of a channel as a wav's header states them; libsndfile silently takes what is there instead."""
    if sound.format not in ("WAV", "WAVEX") or sound.subtype not in SAMPLE_BYTES:
        return 0  # of the other formats it knows where they end, or `_decoded` finds out
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
    """(samples, channels) as (samples,): the mean of the channels, or the chosen one."""
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
