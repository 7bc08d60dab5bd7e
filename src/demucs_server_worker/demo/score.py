"""What is played: key, tempo, harmony, and the notes of every part. No sound yet.

Times are seconds from the start of the song, pitches MIDI numbers (60 is middle C), strengths 0 to 1.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from demucs_server_worker.demo.oscillators import Curve

STEPS: Final = 16
"""Steps of a bar: four beats of four sixteenths."""

SECTION: Final = 4
"""Bars that keep one arrangement."""

MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
MINOR: Final = (0, 2, 3, 5, 7, 8, 10)

PROGRESSIONS: Final = (
    (0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 2, 3, 4), (1, 4, 0, 5), (0, 6, 5, 4), (0, 3, 0, 4),
)  # fmt: skip
"""Roots of the chords, one a bar, as degrees of the scale."""

KICKS: Final = ("x...x...x...x...", "x.......x.......", "x.....x.x.......", "x..x..x...x.....", "x.....x...x..x..")
SNARES: Final = ("....x.......x...", "....x.......x..-", "....x..-.-..x...", "........x.......")
HATS: Final = ("x.x.x.x.x.x.x.x.", "x-x-x-x-x-x-x-x-", "..x...x...x...x.", "x.-.x.-.x.-.x.o.", "x-xxx-x-x-xxx-xo")
BASSES: Final = (
    "r.r.r.r.r.r.r.r.",
    "r.....r.r.......",
    "r...r...f...r...",
    "r..r..r...r.f...",
    "r.......r.....f.",
    "r.o.r.o.r.o.r.o.",
)
ARPEGGIOS: Final = (
    "0.1.2.1.0.1.2.1.",
    "0.1.2.3.2.1.2.3.",
    "0..1..2.0..1..2.",
    "012.012.012.0123",
    "....0.......2...",
    "0...2...1...3...",
)


@dataclass(frozen=True)
class Notes:
    """The notes of one voice, in order of time. Every array has the shape ``(notes,)``.

    Attributes:
        start: seconds.
        duration: seconds; a voice that sings one note at a time ends it before the next begins.
        pitch: MIDI numbers.
        strength: 0 to 1.
    """

    start: Curve
    duration: Curve
    pitch: Curve
    strength: Curve


@dataclass(frozen=True)
class Score:
    """The notes of a whole song.

    Attributes:
        beat: length of a beat, seconds.
        kick, snare, hat: hits; the pitch of a hat is 1 when it is open, else 0.
        bass: one voice.
        pads: four sustained voices that move with the chords.
        plucks: three voices that share an arpeggio in turn, so that notes ring into each other.
        vocals: one voice; a rest of more than a beat ends a phrase.
    """

    beat: float
    kick: Notes
    snare: Notes
    hat: Notes
    bass: Notes
    pads: tuple[Notes, ...]
    plucks: tuple[Notes, ...]
    vocals: Notes


@dataclass(frozen=True)
class _Harmony:
    key: int
    scale: tuple[int, ...]
    progression: tuple[int, ...]

    def pitch(self, degree: int) -> int:
        """Return the pitch of a degree of the scale, counted from the key near the lowest octave (MIDI 24 to 35)."""
        octave, step = divmod(degree, len(self.scale))
        return 24 + self.key + 12 * octave + self.scale[step]

    def root(self, bar: int) -> int:
        return self.progression[bar % len(self.progression)]


def compose(rng: np.random.Generator, seconds: float) -> Score:
    """Return a random song that fills ``seconds``: 84 to 140 beats a minute, major or minor, four chords that repeat.

    Sections of four bars take turns between two arrangements, as verse and chorus do.
    """
    beat = 60.0 / rng.uniform(84.0, 140.0)
    bars = int(np.ceil(seconds / (4.0 * beat))) + 1
    scale = MAJOR if rng.random() < 0.5 else MINOR
    harmony = _Harmony(int(rng.integers(12)), scale, PROGRESSIONS[rng.integers(len(PROGRESSIONS))])
    return Score(
        beat=beat,
        kick=_pattern(rng, KICKS, bars, beat),
        snare=_pattern(rng, SNARES, bars, beat),
        hat=_pattern(rng, HATS, bars, beat),
        bass=_bass(rng, harmony, bars, beat),
        pads=_pads(rng, harmony, bars, beat),
        plucks=_plucks(rng, harmony, bars, beat),
        vocals=_vocals(rng, harmony, bars, beat),
    )


def notes(rows: list[tuple[float, float, float, float]]) -> Notes:
    """Return notes from rows of start, duration, pitch and strength, sorted by start."""
    table = np.array(sorted(rows), dtype=np.float64).reshape(-1, 4)
    return Notes(table[:, 0], table[:, 1], table[:, 2], table[:, 3])


def _choose(rng: np.random.Generator, patterns: tuple[str, ...], bars: int) -> list[str]:
    """Return the pattern of each bar: one for the verse, one for the chorus."""
    verse, chorus = (patterns[index] for index in rng.integers(len(patterns), size=2))
    return [chorus if (bar // SECTION) % 2 else verse for bar in range(bars)]


def _pattern(rng: np.random.Generator, patterns: tuple[str, ...], bars: int, beat: float) -> Notes:
    """Return the hits of a drum. In a pattern ``x`` is a hit, ``-`` a soft one, ``o`` an open one, ``.`` none."""
    rows = []
    for bar, pattern in enumerate(_choose(rng, patterns, bars)):
        for step, mark in enumerate(pattern):
            if mark == ".":
                continue
            start = (bar * STEPS + step) * beat / 4.0 + abs(rng.normal(0.0, 0.002))
            strength = (0.4 if mark == "-" else 1.0) * rng.uniform(0.8, 1.0)
            rows.append((start, beat / 4.0, 1.0 if mark == "o" else 0.0, strength))
    return notes(rows)


def _bass(rng: np.random.Generator, harmony: _Harmony, bars: int, beat: float) -> Notes:
    """Return the bass: root (``r``), fifth (``f``) and octave (``o``) of each bar's chord, between 41 and 147 Hz."""
    rows = []
    short = rng.uniform(0.6, 0.98)
    step_length = beat / 4.0
    for bar, pattern in enumerate(_choose(rng, BASSES, bars)):
        root = harmony.pitch(harmony.root(bar))
        root = root + 12 if root < 28 else root
        root = root - 12 if root > 40 else root
        marks = [step for step, mark in enumerate(pattern) if mark != "."]
        for step, following in zip(marks, [*marks[1:], STEPS], strict=True):
            pitch = root + {"r": 0, "f": 7, "o": 12}[pattern[step]]
            duration = (following - step) * step_length * short
            rows.append(((bar * STEPS + step) * step_length, duration, float(pitch), rng.uniform(0.75, 1.0)))
    return notes(rows)


def _chord(harmony: _Harmony, bar: int, low: int) -> list[int]:
    """Return the four closest pitches of a bar's chord from ``low`` upwards: root, third, fifth and a doubling."""
    root = harmony.root(bar)
    pitches = sorted(low + (harmony.pitch(root + degree) - low) % 12 for degree in (0, 2, 4))
    return [*pitches, pitches[0] + 12]


def _pads(rng: np.random.Generator, harmony: _Harmony, bars: int, beat: float) -> tuple[Notes, ...]:
    low = int(rng.integers(50, 60))
    halves = 2 if rng.random() < 0.3 else 1  # chords struck twice a bar
    length = 4.0 * beat / halves
    rows: list[list[tuple[float, float, float, float]]] = [[], [], [], []]
    for bar in range(bars):
        for half in range(halves):
            for voice, pitch in enumerate(_chord(harmony, bar, low)):
                rows[voice].append(((bar * halves + half) * length, 0.98 * length, float(pitch), rng.uniform(0.8, 1.0)))
    return tuple(notes(row) for row in rows)


def _plucks(rng: np.random.Generator, harmony: _Harmony, bars: int, beat: float) -> tuple[Notes, ...]:
    low = int(rng.integers(58, 70))
    step_length = beat / 4.0
    struck: list[tuple[float, float, float]] = []
    for bar, pattern in enumerate(_choose(rng, ARPEGGIOS, bars)):
        chord = _chord(harmony, bar, low)
        struck += [
            ((bar * STEPS + step) * step_length, float(chord[int(mark)]), rng.uniform(0.6, 1.0))
            for step, mark in enumerate(pattern)
            if mark != "."
        ]
    voices = []
    for voice in range(3):
        own = struck[voice::3]
        ends = [start for start, _, _ in own[1:]] + [bars * STEPS * step_length]
        voices.append(notes([(start, 0.97 * (end - start), pitch, strength)
                             for (start, pitch, strength), end in zip(own, ends, strict=True)]))  # fmt: skip
    return tuple(voices)


def _vocals(rng: np.random.Generator, harmony: _Harmony, bars: int, beat: float) -> Notes:
    """Return a melody in phrases of six to seven and a half beats, each followed by a rest and a breath.

    It walks the scale by small steps and lands on a tone of the chord on strong beats.
    """
    low = int(rng.integers(46, 62))  # from a bass voice to a soprano
    degrees = [degree for degree in range(60) if low <= harmony.pitch(degree) <= low + 16]
    place = len(degrees) // 2
    rows = []
    for phrase in range(0, 4 * bars, 8):
        now = phrase + float(rng.choice([0.0, 0.5, 1.0]))
        end = phrase + float(rng.choice([6.0, 6.5, 7.0, 7.5]))
        while now < end - 0.4:
            length = min(float(rng.choice([0.5, 0.5, 1.0, 1.0, 1.5, 2.0])), end - now)
            place = int(np.clip(place + rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 3]), 0, len(degrees) - 1))
            if now % 1.0 == 0.0:
                tones = {(harmony.root(int(now) // 4) + third) % 7 for third in (0, 2, 4)}
                place = _nearest(degrees, place, tones)
            pitch = float(harmony.pitch(degrees[place]))
            rows.append((now * beat, 0.97 * length * beat, pitch, rng.uniform(0.7, 1.0)))
            now += length
    return notes(rows)


def _nearest(degrees: list[int], place: int, tones: set[int]) -> int:
    """Return the index nearest to ``place`` whose degree is one of the chord's tones."""
    return min(range(len(degrees)), key=lambda index: (degrees[index] % 7 not in tones, abs(index - place)))
