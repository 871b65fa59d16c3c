"""Choices that come from bytes, so that a fuzzer that changes the bytes changes the choices."""

from __future__ import annotations

import random


class Dice(random.Random):
    """Draws its bits from `data`, and zeros when that is used up: the first, the least, the end.

    `random.Random` is the interface: `Dice(bytes)` for a fuzzer, `random.Random(7)` for a test.
    """

    def __new__(cls, data: bytes) -> Dice:
        return super().__new__(cls)

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = data
        self._at = 0

    def getrandbits(self, k: int, /) -> int:
        size = -(-k // 8)
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "little") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / 65536
