"""Every dialogues/*.txt is a transcript: what both sides say, and (lines with " = ") what waxseal makes of it.

The runner gets the sayings and must print the file, whole segments or single bytes alike. After a change
that is meant: `WAXSEAL_GOLDEN_WRITE=1 make golden`, and read the diff.
"""
import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent.parent / os.environ.get("WAXSEAL_BUILD", "build")
DIALOGUES = sorted((HERE / "dialogues").glob("*.txt"))
# The first line of a transcript whose outcome depends on what shares a segment with what.
SEGMENTS_MATTER = "# segments matter"


def run(sayings, *args):
    done = subprocess.run([BUILD / "golden" / "dialogue", *args], input=sayings, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def sayings(text):
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(" = "))


def test_there_are_dialogues():
    assert len(DIALOGUES) >= 20


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda p: p.stem)
def test_dialogue(path):
    text = path.read_text()
    got = run(sayings(text))
    if os.environ.get("WAXSEAL_GOLDEN_WRITE"):
        path.write_text(got)
        return
    assert got == text


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda p: p.stem)
def test_dialogue_in_single_bytes(path):
    text = path.read_text()
    if text.startswith(SEGMENTS_MATTER):
        pytest.skip("segments matter here")
    assert run(sayings(text), "--single") == text
