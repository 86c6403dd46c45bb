"""Plays every story and compares what it prints. With `--rewrite-stories` it writes the new printout instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.story import play

STORIES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_told(story: Path, request: pytest.FixtureRequest) -> None:
    played = play(story)
    if request.config.getoption("--rewrite-stories"):
        story.write_text(played, encoding="utf-8")
    assert played == story.read_text(encoding="utf-8")


def test_there_are_stories() -> None:
    assert len(STORIES) >= 12
