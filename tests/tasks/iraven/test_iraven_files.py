import io
from dataclasses import replace

import numpy as np
import pytest

from probes.core.errors import ProbesError
from probes.tasks.iraven import files, generate, reader, xmlio
from probes.tasks.iraven.space import CONFIGURATIONS


def test_the_originals_files_are_rewritten_byte_for_byte(originals):
    """Masks, boxes, order of attributes, arrays and their types: all of it."""
    paths = sorted(originals.glob("*/*.npz"))
    assert {path.parent.name for path in paths} == set(CONFIGURATIONS)
    for path in paths:
        text = path.with_suffix(".xml").read_text(encoding="ascii")
        problem = xmlio.parse(text)
        assert xmlio.write(problem) == text
        stored = np.load(path, allow_pickle=False)
        packed = files.pack(problem, stored["image"], int(stored["predict"]))
        assert packed == path.read_bytes()


def test_files_made_here_have_the_same_arrays(originals):
    for path in originals.glob("*/*.npz"):
        problem = generate.problem(0, path.parent.name, 0)
        made = np.load(io.BytesIO(files.pack(problem, generate.images(problem), 3)))
        stored = np.load(path, allow_pickle=False)
        assert made.files == stored.files
        for name in made.files:
            assert (made[name].dtype, made[name].shape) == (stored[name].dtype, stored[name].shape)
        np.testing.assert_array_equal(made["structure"], stored["structure"])
        np.testing.assert_array_equal(made["meta_structure"], stored["meta_structure"])
        np.testing.assert_array_equal(made["meta_target"], made["meta_matrix"].max(axis=0))
        assert made["target"] == problem.target
        assert made["predict"] == 3


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_xml_round_trip(name):
    for k in range(20):
        problem = generate.problem(1, name, k)
        parsed = xmlio.parse(xmlio.write(problem))
        without_values = tuple(
            tuple(replace(rule, value=0) for rule in rules) for rules in problem.rules
        )
        assert parsed == replace(problem, rules=without_values)


def test_attributes_are_found_by_name_and_modifications_may_be_missing(originals):
    text = (originals / "distribute_four" / "RAVEN_0_train.xml").read_text(encoding="ascii")
    moved = text.replace('<Component id="0" name="Grid">', '<Component name="Grid" id="0">')
    assert moved != text
    assert xmlio.parse(moved) == xmlio.parse(text)
    older = text[: text.index("<Modified_attributes>")] + "</Data>"
    problem = xmlio.parse(older)
    assert problem.target is None
    assert problem.modified == ()
    with pytest.raises(ValueError, match="not known"):
        _ = problem.known_target


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("</Data>", "", "cannot be parsed"),
        ('Type="2"', 'Type="6"', "outside 1..5"),
        ('Size="5"', 'Size="big"', "invalid literal"),
        (' Angle="7"', "", "Angle"),
        ("Distribute_Four", "Distribute_Five", "no configuration"),
        ('Number="0"', 'Number="3"', "fit their Number"),
        ('bbox="[0.25, 0.75, 0.5, 0.5]"', 'bbox="[0.1, 0.75, 0.5, 0.5]"', "not in tuple"),
        ('name="Constant" attr="Size"', 'name="Bogus" attr="Size"', "unknown rule"),
        ('<Candidate id="4" />', "", "7 candidates"),
        ("<Panel>", "<Panel/><Panel>", "panels"),
    ],
)
def test_a_damaged_xml_is_named(originals, old, new, what):
    text = (originals / "distribute_four" / "RAVEN_0_train.xml").read_text(encoding="ascii")
    assert old in text
    with pytest.raises(ProbesError, match=what) as error:
        xmlio.parse(text.replace(old, new), "the.xml")
    assert error.value.where == "the.xml"
    assert error.value.fix


def test_splits_and_names(tmp_path):
    stems = [files.stem(k).split("_")[2] for k in range(20)]
    assert stems == (["train"] * 6 + ["val"] * 2 + ["test"] * 2) * 2
    path = files.path(tmp_path, "center_single", 17)
    assert path == tmp_path / "center_single" / "RAVEN_17_val.npz"


def test_saving_writes_both_files(tmp_path):
    problem = generate.problem(2, "center_single", 4)
    images = generate.images(problem)
    npz = files.path(tmp_path, "center_single", 4)
    files.save(npz, problem, images, 1)
    assert sorted(path.name for path in npz.parent.iterdir()) == [
        "RAVEN_4_train.npz",
        "RAVEN_4_train.xml",
    ]
    np.testing.assert_array_equal(reader.images(npz), images)
    assert reader.read_metadata(npz).predict == 1
    assert not npz.with_suffix(".xml").read_bytes().endswith(b"\n")
