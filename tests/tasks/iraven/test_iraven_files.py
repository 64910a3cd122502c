import io
from dataclasses import replace

import numpy as np
import pytest
from problem_xml import parse

from probes.tasks.iraven import files, generate, reader, xmlio
from probes.tasks.iraven.space import CONFIGURATIONS


def test_the_originals_files_are_rewritten_byte_for_byte(originals):
    """Masks, boxes, order of attributes, arrays and their types: all of it."""
    paths = sorted(originals.glob("*/*.npz"))
    assert {path.parent.name for path in paths} == set(CONFIGURATIONS)
    for path in paths:
        text = path.with_suffix(".xml").read_text(encoding="ascii")
        problem = parse(text)
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
        parsed = parse(xmlio.write(problem))
        without_values = tuple(
            tuple(replace(rule, value=0) for rule in rules) for rules in problem.rules
        )
        assert parsed == replace(problem, rules=without_values)


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
