"""Damage to files, drawn from a generator of random numbers."""

import random

#: Numbers at the ends of what fields hold.
EDGES = [
    0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000,
    0xFFFFFFFF, 2**40, 2**63 - 1, 2**63, 2**64 - 1,
]  # fmt: skip


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to three places."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        content = rng.choice(DAMAGES)(content, rng)
    return content


def flip_bits(content, rng):
    """Turn over single bits."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 2, 8, 64])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_bits_near_the_start(content, rng):
    """Turn over bits where headers lie."""
    size = min(len(content), 200)
    return flip_bits(content[:size], rng) + content[size:]


def flip_bits_near_the_end(content, rng):
    """Turn over bits where some formats have their index."""
    start = max(len(content) - 200, 0)
    return content[:start] + flip_bits(content[start:], rng)


def set_number(content, rng):
    """Put a number from the end of its range somewhere."""
    width = rng.choice([1, 2, 4, 8])
    number = rng.choice(EDGES) % 256**width
    start = rng.randrange(len(content) + 1)
    order = rng.choice(['little', 'big'])
    end = start + width
    return content[:start] + number.to_bytes(width, order) + content[end:]


def cut(content, rng):
    """Break off."""
    return content[: rng.randrange(len(content) + 1)]


def lose(content, rng):
    """Take a piece out of the middle."""
    start, end = _piece(content, rng)
    return content[:start] + content[end:]


def zero(content, rng):
    """Fill a piece with zeros, as a failing disk does."""
    start, end = _piece(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def repeat(content, rng):
    """Write a piece a second time."""
    start, end = _piece(content, rng)
    return content[:end] + content[start:end] + content[end:]


def swap(content, rng):
    """Let two halves change their places."""
    middle = rng.randrange(len(content) + 1)
    return content[middle:] + content[:middle]


def insert(content, rng):
    """Put random bytes in between."""
    start = rng.randrange(len(content) + 1)
    noise = rng.randbytes(rng.choice([1, 4, 100]))
    return content[:start] + noise + content[start:]


def double(content, rng):
    """Append a file to itself."""
    return content + content


def _piece(content, rng):
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice([1, 16, 256, 4096]))


DAMAGES = [
    flip_bits, flip_bits, flip_bits_near_the_start, flip_bits_near_the_end,
    set_number, set_number, cut, lose, zero, repeat, swap, insert, double,
]  # fmt: skip
