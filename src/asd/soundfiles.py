"""Sound files as int16 samples at one rate.

By default a recording must be a mono 16-bit PCM wav of the right rate, which is read without any change.
`logmel.convert` takes all files that libsndfile reads (wav of any depth, FLAC, Ogg, mp3, …) at any rate;
`logmel.channel` takes recordings with several channels.
"""

import io
import logging
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from asd.errors import InputError
from asd.files import printable, walk
from asd.settings import LogMel

log = logging.getLogger(__name__)

FULL_SCALE = 32768
"""The absolute value of the int16 sample that stands for -1.0."""

LOUDEST = 8.0
"""If floating-point samples exceed this (18 dB above full scale), their full scale is not 1."""

SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64"),
)
"""Suffixes of recordings that libsndfile reads."""

OTHER_SUFFIXES = (
    *(".m4a", ".mp4", ".aac", ".wma", ".amr", ".3gp", ".3gpp", ".webm", ".mka", ".mov", ".avi", ".mkv"),
    *(".ape", ".wv", ".ac3", ".dsf", ".mpc", ".tta", ".ra", ".dts", ".spx", ".caff", ".bwf", ".mp2", ".sd2"),
)
"""Suffixes of sound that libsndfile does not read (or not always): such files are left out and named."""

SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
"""Bytes per sample of a wav, by libsndfile's name of the format."""

BLOCK = 2**20
"""Frames that are read at a time, so that a wrong header cannot cause more memory to be taken than the file needs."""


# --- finding ------------------------------------------------------------------------------------------------


def find(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Find the recordings in a folder and below it, through links (see `asd.files.walk`).

    Returns:
        The recordings, sorted; and path -> reason of what is left out: sound of formats that cannot be read, folders
        without permission, links that lead nowhere.
    """
    files, skipped = walk(folder)
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    left_out = skipped | {
        path: f"{path.suffix.lower()} is no format that can be read; convert it to wav or FLAC"
        for path in files
        if path.suffix.lower() in OTHER_SUFFIXES
    }
    return found, left_out


def said(left_out: dict[Path, str]) -> str:
    """Return what is left out as a text: `3 left out: a.m4a, b.m4a (.m4a is no format …); in (Permission denied)`."""
    by_reason: dict[str, list[str]] = {}
    for path, why in left_out.items():
        by_reason.setdefault(why, []).append(printable(path))
    parts = [f"{', '.join(some[:3])}{', …' if len(some) > 3 else ''} ({why})" for why, some in by_reason.items()]
    return f"{len(left_out)} left out: {'; '.join(parts)}"


# --- reading ------------------------------------------------------------------------------------------------


def read(path: Path, settings: LogMel) -> np.ndarray:
    """Read a recording.

    Samples are rounded to the nearest of the 65536 levels. Samples beyond full scale (in floating-point files, or after
    resampling) are set to full scale.

    Returns:
        (samples,) int16 at the rate of the settings.

    Raises:
        InputError: the file is missing, empty or truncated, has samples that are not numbers or another full scale than
            1, or is not as the settings require.
    """
    return np.concatenate(list(blocks(path, settings)))


def blocks(path: Path, settings: LogMel) -> Iterator[np.ndarray]:
    """Yield the samples that `read` returns in blocks, so that a long recording takes little memory.

    Yields:
        (samples,) int16.

    Raises:
        InputError: as in `read`; of what lies within the recording when that block is reached.
    """
    with _opened(path, settings) as sound:
        if _is_native(sound, settings):
            for block in _blocks(path, sound, "int16"):
                yield block[:, 0]
            return
        peak = 0.0

        def measured() -> Iterator[np.ndarray]:
            nonlocal peak
            for block in _blocks(path, sound):
                yield (one := mono(block, settings))
                peak = max(peak, float(np.abs(one).max()))

        for block in resampled(measured(), sound.samplerate, settings.rate):
            yield to_int16(block)
        if peak > 1:
            log.warning("%s: the peak is %.2f of full scale; samples above 1 are clipped", path, peak)


@contextmanager
def float_blocks(path: Path, settings: LogMel) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """Open a recording, to be read in blocks without resampling and rounding.

    Yields:
        Its rate in Hz, and its blocks, (samples,) float32, full scale 1.0.

    Raises:
        InputError: as in `blocks`.
    """
    with _opened(path, settings) as sound:
        yield sound.samplerate, (mono(block, settings) for block in _blocks(path, sound))


def length(path: Path, settings: LogMel) -> int:
    """Return the number of samples that `read` would return, from the header alone.

    Raises:
        InputError: as in `read`, if the header shows the fault.
    """
    with _opened(path, settings) as sound:
        frames = sound.frames if _knows_its_length(sound) else sum(map(len, _blocks(path, sound)))
        return _resampled_length(frames, sound.samplerate, settings.rate)


def fault_of(samples: np.ndarray) -> str:
    """Return what is wrong with floating-point samples (any shape) whose full scale must be 1; "" if nothing is."""
    if not np.isfinite(samples).all():
        return "found samples that are no numbers (nan or infinite)"
    if samples.size == 0 or (peak := float(np.abs(samples).max())) <= 1:
        return ""
    # Converted integers are whole numbers, which distinguishes them from recordings that exceed 1 a little.
    if peak > LOUDEST or (np.rint(samples) == samples).all():
        return (
            f"found floating-point samples up to {peak:.6g}, expected full scale at 1; divide them by the full scale "
            f"of the integers that they were converted from ({FULL_SCALE} for 16 bit)"
        )
    return ""


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
    """Return samples in [-1, 1), of any shape, as int16: the nearest level, and full scale for values beyond."""
    return np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


@contextmanager
def _opened(path: Path, settings: LogMel) -> Iterator[soundfile.SoundFile]:
    expected = _expected(settings)
    kind = "sound file" if settings.convert else "wav"
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # reading a pipe might never end
            what = "a folder" if stat.S_ISDIR(state.st_mode) else "not a file"
            raise InputError(f"{path}: not a readable {kind} ({what}); {expected}; remove it")
        if state.st_size == 0:
            raise InputError(f"{path}: an empty file; {expected}; copy it again or remove it")
        file = path.open("rb", buffering=0)  # unbuffered, since libsndfile uses the position of the descriptor
    except OSError as error:  # the system's reason is given: copying again does not help if permission is missing
        raise InputError(f"{path}: not a readable {kind} ({error.strerror}); {expected}") from None
    with file:
        header = _wav_header(file, state.st_size)
        try:
            # From the open file: given its name, libsndfile would also read what macOS leaves beside it (._name).
            sound = soundfile.SoundFile(_mended(path, file, header, state.st_size), closefd=False)
        except (OSError, RuntimeError, TypeError) as error:  # TypeError: a header with no channels
            raise InputError(
                f"{path}: not a readable {kind} ({error}); {expected}; copy it again or remove it"
            ) from None
        with sound:
            found = f"{path}: found {sound.format} {sound.subtype}, channels: {sound.channels}, {sound.samplerate} Hz"
            if not settings.convert and (sound.samplerate != settings.rate or not _is_wav16(sound)):
                raise InputError(f"{found}; {expected}; convert it, or set logmel.convert (asd: --convert)")
            if sound.channels > 1 and settings.channel == "mono":
                raise InputError(f"{found}; {expected}; convert it, or set logmel.channel (asd: --channel mix)")
            if sound.channels < (settings.channel if isinstance(settings.channel, int) else 1):
                raise InputError(
                    f"{found}; expected channel {settings.channel}; correct logmel.channel (asd: --channel)"
                )
            if header:
                _check_length(path, sound, header, state.st_size)
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


# --- how long a wav is --------------------------------------------------------------------------------------


class WavHeader(NamedTuple):
    """Where the samples of a wav are according to its header."""

    begin: int
    """The byte at which they begin."""
    size: int
    """Their number of bytes according to the header."""
    format: str
    """RIFF, or RF64, whose sizes have 64 bits."""

    @property
    def unfinished(self) -> bool:
        """Whether the size is a placeholder, written by recorders that do not update the header at the end.

        Placeholders are 0 (also after a crash), 0x7FFFF000 (sox), 0x7FFFFF00 and 0x80000000 (arecord), 0xFFFFFFFF
        (ffmpeg), or a little less if the size of the header was subtracted.
        """
        return self.size == 0 or 0x7FFFF000 <= self.size <= 0x80000000 or 0xFFFFF000 <= self.size <= 0xFFFFFFFF


def _wav_header(file: io.FileIO, size: int) -> WavHeader | None:
    """Read where the samples of a wav are; None for other formats, or without samples. The file is rewound."""
    try:
        begin = file.read(12)
        if begin[:4] not in (b"RIFF", b"RF64") or begin[8:] != b"WAVE":
            return None
        name, long = begin[:4].decode(), None
        while len(head := file.read(8)) == 8:
            chunk, stated = struct.unpack("<4sI", head)
            if chunk == b"ds64" and name == "RF64":
                long = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))[1]
                file.seek(-min(16, stated), os.SEEK_CUR)
            if chunk == b"data":
                stated = long if long is not None and stated == 0xFFFFFFFF else stated
                return WavHeader(file.tell(), stated, name)
            if file.seek(stated + stated % 2, os.SEEK_CUR) > size:
                return None
        return None
    finally:
        file.seek(0)


def _mended(path: Path, file: io.FileIO, header: WavHeader | None, size: int) -> int | io.BytesIO:
    """The input for libsndfile: the file's descriptor, or a copy with the true size instead of a placeholder."""
    if header is None or header.format != "RIFF" or not header.unfinished or size - header.begin in (0, header.size):
        return file.fileno()
    held = size - header.begin
    if held > 0xFFFFFFFF - header.begin:
        raise InputError(
            f"{path}: more than 4 GiB, which the header of a wav cannot express; cut it, or save it as RF64 or W64"
        )
    log.info("%s: the header does not say how long it is; read to its end", path)
    copy = bytearray(file.read())
    struct.pack_into("<I", copy, 4, len(copy) - 8)
    struct.pack_into("<I", copy, header.begin - 4, held)
    return io.BytesIO(copy)


def _check_length(path: Path, sound: soundfile.SoundFile, header: WavHeader, size: int) -> None:
    """Compare the size in a wav's header with the file; libsndfile silently uses the smaller one.

    Raises:
        InputError: the file ends before the samples, or has more than 4 GiB, so that the 32 bits of its size
            overflowed.
    """
    if sound.subtype not in SAMPLE_BYTES or (header.unfinished and header.format == "RIFF"):
        return  # for compressed formats `_blocks` finds it
    frame = SAMPLE_BYTES[sound.subtype] * sound.channels
    promised = header.size // frame
    held = size - header.begin
    counts_itself = header.size - held in (header.begin, header.begin - 8)  # some recorders include the header
    if sound.frames < promised and not counts_itself:
        raise InputError(
            f"{path}: truncated: found {sound.frames} samples, the header promises {promised}; copy it again"
        )
    rest = held - header.size - header.size % 2
    if rest < frame or _is_chunk(path, header.begin + header.size + header.size % 2):
        return
    if header.format == "RIFF" and rest >= 2**32 - header.begin:
        raise InputError(
            f"{path}: the file has {held / 2**30:.1f} GiB of samples, its header says {promised} samples: the header "
            "of a wav cannot express more than 4 GiB; cut it, or save it as RF64 or W64"
        )
    log.warning(
        "%s: the header says %.2f s, but the file continues for another %.2f s, which are left out",
        path,
        promised / sound.samplerate,
        rest // frame / sound.samplerate,
    )


def _is_chunk(path: Path, at: int) -> bool:
    """Whether a chunk of a wav (for example, a title after the samples) begins at a byte, or only zeros follow."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(at)
        head = file.read(min(4096, end - at))
    if end - at <= 4096 and not any(head):  # padding to a whole block
        return True
    name, stated = struct.unpack("<4sI", head[:8].ljust(8, b"\0"))
    return all(32 <= letter < 127 for letter in name) and at + 8 + stated <= end + 1


# --- samples ------------------------------------------------------------------------------------------------


def _knows_its_length(sound: soundfile.SoundFile) -> bool:
    """Whether the header has the number of samples; a streamed FLAC or au has none, or the largest number."""
    return sound.frames < 2**40


def _blocks(path: Path, sound: soundfile.SoundFile, dtype: str = "float32") -> Iterator[np.ndarray]:
    """The samples of a file in blocks, (samples, channels); at least one."""
    if not _knows_its_length(sound):
        sound.seekable = lambda: False  # otherwise soundfile seeks after each block, which fails without an end
    count = 0
    try:
        while len(block := sound.read(BLOCK, dtype=dtype, always_2d=True)):
            if dtype != "int16" and (fault := fault_of(block)):
                finite = np.isfinite(block).all(1)
                row = int((~finite).argmax() if not finite.all() else np.abs(block).max(1).argmax())
                raise InputError(
                    f"{path}: sample {count + row} is {block[row].tolist()}; {fault}; record it again or remove it"
                )
            count += len(block)
            yield block
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); copy it again or remove it") from None
    if count < sound.frames and (_knows_its_length(sound) or not count):
        raise InputError(f"{path}: truncated: found {count} samples, the header promises {sound.frames}; copy it again")


def mono(sound: np.ndarray, settings: LogMel) -> np.ndarray:
    """Return the mean of the channels, or the chosen channel: (samples, channels) -> (samples,)."""
    return sound[:, settings.channel - 1] if isinstance(settings.channel, int) else sound.mean(1)


def resampled(sound: Iterable[np.ndarray], found: int, rate: int) -> Iterator[np.ndarray]:
    """Yield sound at another rate, as it comes.

    Args:
        sound: blocks (samples,) float32.
        found: their rate in Hz.
        rate: the rate in Hz to which they are resampled.

    Yields:
        Blocks (samples,) float32; together they are as long as `length` says.
    """
    if found == rate:
        yield from sound
        return
    import soxr

    stream = soxr.ResampleStream(found, rate, 1, dtype="float32", quality="HQ")
    taken = given = 0
    for block in sound:
        taken += len(block)
        given += len(made := stream.resample_chunk(block))
        yield made
    rest = stream.resample_chunk(np.empty(0, np.float32), last=True)[: _resampled_length(taken, found, rate) - given]
    yield np.pad(rest, (0, _resampled_length(taken, found, rate) - given - len(rest)))


def _resampled_length(samples: int, found: int, rate: int) -> int:
    return max(1, (2 * samples * rate + found) // (2 * found))  # to the nearest
