"""`probes models`: the table of classes, and the file behind it."""

from __future__ import annotations

import json

from hub_layouts.build import LAYOUTS, PUBLISHED

from probes.cli import main, models


def test_the_table_has_every_class_once_and_says_what_was_checked(capsys):
    assert main.main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = [(row["class"], row["family"]) for row in rows]
    assert len(set(names)) == len(names)
    by_class = {row["class"]: row for row in rows}
    assert {row["family"] for row in rows} > {"fallback", "qwen2_5_vl", "pllava"}
    assert by_class["Gemma3ForConditionalGeneration"]["frame_as"] == ["image"]
    assert set(by_class["Qwen3VLForConditionalGeneration"]["frame_as"]) == {"video", "image"}
    # By default another family reads it, with videos; its own is there on request.
    on_request = {(row["class"], row["family"]): row["checked"] for row in rows}
    assert on_request["LlavaNextForConditionalGeneration", "llava_next"] is True
    assert by_class["Idefics2ForConditionalGeneration"]["template"] == "published"
    assert by_class["Ovis2ForConditionalGeneration"]["template"] == "rebuilt"
    omni = by_class["Qwen2_5OmniThinkerForConditionalGeneration"]
    assert omni["model_types"] == ["qwen2_5_omni_thinker", "qwen2_5_omni"]
    assert omni["frame_as"] == ["video", "image"]
    assert by_class["Kimi_K25ForConditionalGeneration"]["checked"] is False
    assert all(row["interventions"] == (row["family"] != "fallback") for row in rows)


def test_what_is_printed_as_checked_was_compared_and_equal(capsys):
    assert main.main(["models", "--checked"]) == 0
    printed = capsys.readouterr().out
    known = models.results()["classes"]
    equal = [
        name
        for name, ways in known.items()
        if all(one["equal"] for found in ways.values() for one in found.values())
    ]
    assert equal
    for name in equal:
        assert name.partition(":")[2] in printed
    table, _, told = printed.partition("\n\n")
    assert f"checked: {len(table.splitlines()) - 1} classes" in told
    # What a family does unlike the class is told, and nothing else is.
    by_name = {name: ways for name, ways in known.items() if name.startswith("llava_onevision:")}
    differs = [one.get("differs") for ways in by_name.values() for one in ways["image"].values()]
    assert differs and all(f"unlike the class: llava_onevision: {one}" in told for one in differs)
    assert told.count("unlike the class:") == 1


def test_published_is_said_of_no_layout_without_a_published_template():
    said = {
        repository
        for ways in models.results()["classes"].values()
        for found in ways.values()
        for repository, one in found.items()
        if one["published"]
    }
    assert len(said) >= 20
    assert said <= {LAYOUTS[name][0] for name in PUBLISHED}
