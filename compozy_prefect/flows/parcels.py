"""JSON ↔ the bytes in which a worker is sent a batch of steps.

There is an environment in it, and Ray may keep arguments that are large in files: without the key,
which travels apart from them, they are of no use.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from cryptography.fernet import Fernet

from compozy_prefect.compiler.plan import Json


def new_key() -> bytes:
    return Fernet.generate_key()


def pack(key: bytes, content: Json) -> bytes:
    return Fernet(key).encrypt(zlib.compress(json.dumps(content).encode(), 1))


def unpack(key: bytes, parcel: bytes) -> Any:
    return json.loads(zlib.decompress(Fernet(key).decrypt(parcel)))
