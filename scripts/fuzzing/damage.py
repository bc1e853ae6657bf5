"""Random damage to bytes and texts."""

from fuzzing.chance import Chance

ODD = [*"\0\n\t'\"\\[]{}(),:=~+@$é中😀#%&*!?-./ ", "${", "--", "..", "null", "nan", "1e999"]


def of_bytes(content: bytes, chance: Chance) -> bytes:
    """Return bytes that are cut, flipped, doubled, or others altogether."""
    place = chance.random.randrange(len(content) + 1)
    match chance.choose("cut", "flip", "flip", "flip", "drop", "insert", "empty", "foreign"):
        case "cut":
            return content[:place]
        case "drop":
            return content[:place] + content[place + chance.choose(1, 4, 100) :]
        case "insert":
            return content[:place] + chance.random.randbytes(chance.choose(1, 8)) + content[place:]
        case "empty":
            return b""
        case "foreign":
            return chance.random.randbytes(chance.choose(1, 50, 1000))
    changed = bytearray(content)
    for _ in range(chance.choose(1, 1, 1, 20)):
        if changed:
            changed[chance.random.randrange(len(changed))] ^= 1 << chance.random.randrange(8)
    return bytes(changed)


def of_text(text: str, chance: Chance, most: int = 2) -> str:
    """Return a text with characters that are dropped, doubled, swapped, replaced or put in."""
    for _ in range(chance.random.randint(1, most)):
        place = chance.random.randrange(len(text) + 1)
        before, here, after = text[:place], text[place : place + 1], text[place + 1 :]
        odd = chance.choose(*ODD)
        text = chance.choose(
            before + after, before + here + here + after, before + odd + after, before + odd + here + after,
            before + after[:1] + here + after[1:], before + here * chance.choose(2, 3000) + after,
        )  # fmt: skip
    return text
