"""Random damage to bytes and texts."""

from typing import Any

import torch

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


def of_state(state: Any, chance: Chance, path: str = "") -> tuple[Any, str]:
    """Return the contents of a checkpoint with a part left out, renamed or of another type, and which part it is."""
    if not isinstance(state, dict | list | tuple) or not state or chance.often(0.1):
        other = [None, 3, "text", [], {}, {"a": 1}, torch.zeros(2), torch.zeros(0)]
        other = [each for each in other if type(each) is not type(state)]
        value = chance.choose(*other)
        return value, f"{path} is {value!r}"
    if isinstance(state, list | tuple):
        place = chance.random.randrange(len(state))
        if chance.often(0.3):
            return [*state[:place], *state[place + 1 :]], f"{path} without its item {place}"
        changed, title = of_state(state[place], chance, f"{path}[{place}]")
        return [*state[:place], changed, *state[place + 1 :]], title
    key = chance.choose(*state)
    if chance.often(0.3):
        return {name: value for name, value in state.items() if name != key}, f"{path}.{key} is missing"
    if chance.often(0.3):
        renamed = {(f"{name}x" if name == key else name): value for name, value in state.items()}
        return renamed, f"{path}.{key} is renamed"
    changed, title = of_state(state[key], chance, f"{path}.{key}")
    return state | {key: changed}, title
