"""A picture of boxes and short words, written as PNG (ISO/IEC 15948) with nothing but the standard library."""

from __future__ import annotations

import struct
import zlib

Colour = tuple[int, int, int]

_WIDE, _ZOOM = 5, 2  # columns of dots in a letter, and pixels per dot

# Five rows of five dots; lower case is written in capitals.
_LETTERS = {
    "A": ".###. #...# ##### #...# #...#", "B": "####. #...# ####. #...# ####.",
    "C": ".#### #.... #.... #.... .####", "D": "####. #...# #...# #...# ####.",
    "E": "##### #.... ####. #.... #####", "F": "##### #.... ####. #.... #....",
    "G": ".#### #.... #..## #...# .####", "H": "#...# #...# ##### #...# #...#",
    "I": ".###. ..#.. ..#.. ..#.. .###.", "J": "..### ...#. ...#. #..#. .##..",
    "K": "#..#. #.#.. ##... #.#.. #..#.", "L": "#.... #.... #.... #.... #####",
    "M": "#...# ##.## #.#.# #...# #...#", "N": "#...# ##..# #.#.# #..## #...#",
    "O": ".###. #...# #...# #...# .###.", "P": "####. #...# ####. #.... #....",
    "Q": ".###. #...# #.#.# #..#. .##.#", "R": "####. #...# ####. #..#. #...#",
    "S": ".#### #.... .###. ....# ####.", "T": "##### ..#.. ..#.. ..#.. ..#..",
    "U": "#...# #...# #...# #...# .###.", "V": "#...# #...# #...# .#.#. ..#..",
    "W": "#...# #...# #.#.# ##.## #...#", "X": "#...# .#.#. ..#.. .#.#. #...#",
    "Y": "#...# .#.#. ..#.. ..#.. ..#..", "Z": "##### ...#. ..#.. .#... #####",
    "0": ".###. #..## #.#.# ##..# .###.", "1": "..#.. .##.. ..#.. ..#.. .###.",
    "2": "####. ....# .###. #.... #####", "3": "####. ....# .###. ....# ####.",
    "4": "#..#. #..#. ##### ...#. ...#.", "5": "##### #.... ####. ....# ####.",
    "6": ".###. #.... ####. #...# .###.", "7": "##### ....# ...#. ..#.. ..#..",
    "8": ".###. #...# .###. #...# .###.", "9": ".###. #...# .#### ....# .###.",
    ".": "..... ..... ..... ..... ..#..", ",": "..... ..... ..... ..#.. .#...",
    "-": "..... ..... .###. ..... .....", " ": "..... ..... ..... ..... .....",
}  # fmt: skip


class Canvas:
    """A white picture of `width` × `height` pixels, the origin at the top left."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows = [bytearray(b"\xff" * (3 * width)) for _ in range(height)]

    def box(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        """Fill a rectangle; what lies to the right of the picture or below it is cut off."""
        width = max(0, min(width, self.width - x))
        for row in self._rows[y : y + height]:
            row[3 * x : 3 * (x + width)] = bytes(colour) * width

    def text(self, x: int, y: int, words: str, colour: Colour) -> None:
        """Write a line, (x, y) being its top left; a character without a letter is left blank."""
        for number, letter in enumerate(words.upper()):
            left = x + number * (_WIDE + 1) * _ZOOM
            for row, dots in enumerate(_LETTERS.get(letter, _LETTERS[" "]).split()):
                for column, dot in enumerate(dots):
                    if dot == "#":
                        self.box(left + column * _ZOOM, y + row * _ZOOM, _ZOOM, _ZOOM, colour)

    @staticmethod
    def width_of(words: str) -> int:
        """Columns that a line of text takes."""
        return len(words) * (_WIDE + 1) * _ZOOM

    def png(self) -> bytes:
        """The picture as a PNG file: eight bits of red, green and blue, no filter."""
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self._rows), 9)
        chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
