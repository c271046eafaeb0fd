"""Omniglot's drawings on disk: where they may lie, and whether all of them are there.

Drawing 7 of character 0683 is the file Latin/character01/0683_07.png in one of Omniglot's two sets. People keep the
sets in different places, packed or unpacked, and operating systems add files of their own. Here a file is recognized by
its name alone.
"""

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SETS = {"images_background": 964, "images_evaluation": 659}  # the two sets and their numbers of characters
DRAWINGS = 20  # of each character, one by each person
FOLDER = "omniglot-py"  # what torchvision.datasets.Omniglot calls its folder

# Anything with a different name does not count, such as ._0683_07.png, @eaDir, .ipynb_checkpoints, Thumbs.db,
# "Latin copy" or "0683_07 (1).png".
_ALPHABET = re.compile(r"[A-Za-z][\w()-]*")
_CHARACTER = re.compile(r"character\d\d")
_DRAWING = re.compile(r"\d{4}_\d\d\.png")
# Folders to look into, and archives to look at: Omniglot, its repository, and the names that people unpack it to.
_LIKELY = re.compile(r"omniglot|images_(background|evaluation)(?!_small)|archive|(data|python)$", re.IGNORECASE)
_DEPTH = 4  # omniglot-master/python/images_background/images_background

_Listing = dict[str, dict[str, Path | zipfile.Path]]  # "Latin/character01" → "0683_07.png" → the file


class DrawingSet(NamedTuple):
    """One complete set: the folder or archive it is in, and its characters in the order of their numbers.

    characters: for each character its name, "Latin/character01", and the files of its 20 drawings.
    """

    place: Path
    characters: list[tuple[str, list[Path | zipfile.Path]]]


def find_sets(root: Path) -> tuple[dict[str, DrawingSet], list[str]]:
    """Find Omniglot's two sets in the folder `root`: in its usual place, directly in it, deeper, or in ZIP archives.

    Returns the complete sets, by name, and a sentence about each archive that looked right but cannot be used.
    Raises ValueError if a set is there, but damaged or incomplete wherever it is.
    """
    folders = list(_search(root.parent if root.name in SETS else root, _DEPTH))
    archives = [
        path
        for folder in folders
        for path in sorted(folder.glob("*.zip"))
        if _LIKELY.match(path.name) and path.is_file()
    ]
    found, notes, listings, first = {}, {}, {}, 1
    for name, size in SETS.items():
        numbers, damaged = [f"{number:04}" for number in range(first, first + size)], {}
        first += size
        for place in (*folders, *archives):
            if place not in listings:
                listings[place] = _list_folder(place) if place.is_dir() else _list_archive(place, notes)
            listing, by_number = listings[place], _sort_by_number(listings[place])
            here = sum(number in by_number for number in numbers)
            problem = _find_problem(place, listing, by_number, numbers) if here else None
            if here and problem is None:
                found[name] = DrawingSet(place, [_character(listing, by_number[number][0]) for number in numbers])
                break
            if problem and place.is_dir():
                damaged[here] = damage(place, problem)
            elif problem:
                notes[place] = f"{place} cannot be used: {problem}."
        if name not in found and damaged:
            raise damaged[max(damaged)]
    return found, list(notes.values())


def damage(place: Path, problem: str) -> ValueError:
    """The error for drawings in `place` that cannot be used, with what to do about it."""
    remedy = f"Repair this, or move {place} somewhere else and load again, which downloads Omniglot again."
    return ValueError(f"{problem}. {remedy}")


def _search(folder: Path, depth: int) -> Iterator[Path]:
    """`folder` and the folders in it that Omniglot may be in, torchvision's first."""
    yield folder
    inner = [path for path in folder.iterdir() if _LIKELY.match(path.name) and path.is_dir()] if depth else []
    for path in sorted(inner, key=lambda path: (path.name != FOLDER, path.name)):
        yield from _search(path, depth - 1)


def _list_folder(place: Path) -> _Listing:
    listing = {}
    for alphabet in place.iterdir():
        # Two looks are cheap; a folder of something else may have a million files, or be closed to this user.
        if _ALPHABET.fullmatch(alphabet.name) and any(os.path.isdir(alphabet / f"character0{n}") for n in (1, 2)):
            for character in alphabet.iterdir():
                if _CHARACTER.fullmatch(character.name) and character.is_dir():
                    drawings = {path.name: path for path in character.iterdir() if _DRAWING.fullmatch(path.name)}
                    listing[f"{alphabet.name}/{character.name}"] = drawings
    return listing


def _list_archive(place: Path, notes: dict[Path, str]) -> _Listing:
    """The same for a ZIP archive, whatever folders its alphabets are in. Nothing is unpacked to the disk."""
    try:
        archive, listing = zipfile.ZipFile(place), {}
    except zipfile.BadZipFile as error:
        notes[place] = f"{place} cannot be used: it is damaged, or was not downloaded completely ({error})."
        return {}
    for name in archive.namelist():
        *_, alphabet, character, drawing = ("/" * 3 + name).split("/")
        if _ALPHABET.fullmatch(alphabet) and _CHARACTER.fullmatch(character) and _DRAWING.fullmatch(drawing):
            listing.setdefault(f"{alphabet}/{character}", {})[drawing] = zipfile.Path(archive, name)
    return listing


def _sort_by_number(listing: _Listing) -> dict[str, list[str]]:
    """Number → the characters, usually one, that have drawings with this number."""
    by_number = {}
    for character in sorted(listing):
        for number in sorted({drawing[:4] for drawing in listing[character]}):
            by_number.setdefault(number, []).append(character)
    return by_number


def _find_problem(place: Path, listing: _Listing, by_number: dict[str, list[str]], numbers: list[str]) -> str | None:
    """What is wrong with the characters that have these numbers; None if all of them are complete."""
    missing = [number for number in numbers if number not in by_number]
    empty = sorted(character for character, drawings in listing.items() if not drawings)
    if missing and empty:
        return f"{place / empty[0]} contains 0 of {DRAWINGS} drawings"
    closed = [path for path in place.iterdir() if _is_closed(path)] if missing and place.is_dir() else []
    if closed:
        return f"{closed[0]} cannot be opened by this user"
    if missing:
        there = f"{len(numbers) - len(missing)} of {len(numbers)} characters"
        return f"{place} contains {there}; the first missing drawing is {missing[0]}_01.png"
    for number in numbers:
        character, *others = by_number[number]
        if others:
            return f"{place / character} and {place / others[0]} both contain drawings of character {number}"
        names = listing[character]
        lacking = [name for person in range(1, DRAWINGS + 1) if (name := f"{number}_{person:02}.png") not in names]
        if lacking:
            there = f"{DRAWINGS - len(lacking)} of {DRAWINGS} drawings"
            return f"{place / character} contains {there}; {lacking[0]} is missing"
        foreign = sorted(name for name in names if not name.startswith(number))
        if foreign:
            return f"{place / character} contains drawings of two characters, {number}_01.png and {foreign[0]}"
    return None


def _is_closed(path: Path) -> bool:
    """True for a folder that this user may not open."""
    try:
        os.scandir(path).close()
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def _character(listing: _Listing, name: str) -> tuple[str, list[Path | zipfile.Path]]:
    drawings = listing[name]
    return name, [drawings[file] for file in sorted(drawings)[:DRAWINGS]]
