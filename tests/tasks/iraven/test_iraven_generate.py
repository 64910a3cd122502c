import hashlib
import json

import numpy as np
import pytest

from probes.core.errors import ProbesError
from probes.tasks.iraven import files, generate, reader
from probes.tasks.iraven.generate import make, problem
from probes.tasks.iraven.space import CONFIGURATIONS

INNER = "in_distribute_four_out_center_single"
GOLDEN = {  # sha256 of the problems that a version makes; a new one needs a new version
    1: "4b2c4bbf2683485e8b292c3cbaa261e2cee66b886858ccc717b6991da1ec9a50",
}


def bytes_below(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("RAVEN_*")
        if path.is_file()
    }


def test_a_seed_makes_the_same_problems_in_every_release():
    text = "".join(repr(problem(7, name, k)) for name in CONFIGURATIONS for k in (0, 1, 12345))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[generate.VERSION]


def test_content_depends_on_seed_configuration_and_number_only():
    assert problem(3, "distribute_four", 5) == problem(3, "distribute_four", 5)
    others = [
        problem(3, "distribute_four", 6),
        problem(4, "distribute_four", 5),
        problem(2**32 + 3, "distribute_four", 5),
    ]
    assert all(other != problem(3, "distribute_four", 5) for other in others)
    left, up = list(CONFIGURATIONS)[3:5]
    assert problem(3, left, 5).rules != problem(3, up, 5).rules


def test_files_do_not_depend_on_how_many_in_which_order_or_by_how_many_workers(tmp_path):
    names = ["distribute_four", "center_single"]
    assert make(tmp_path / "a", 4, 9, names) == 8
    assert make(tmp_path / "b", 2, 9, names[::-1]) == 4
    assert make(tmp_path / "b", 4, 9, names, workers=2) == 4
    a, b = bytes_below(tmp_path / "a"), bytes_below(tmp_path / "b")
    assert a == b
    assert len(a) == 16
    more = make(tmp_path / "c", 6, 9, ["center_single"], workers=2)
    assert more == 6
    c = bytes_below(tmp_path / "c")
    assert {name: c[name] for name in a if name in c} == {
        name: content for name, content in a.items() if name.startswith("center_single")
    }


def test_an_interrupted_folder_is_finished(tmp_path):
    calls = []
    make(tmp_path, 5, 1, ["center_single"])
    whole = bytes_below(tmp_path)
    files.path(tmp_path, "center_single", 3).unlink()
    count = make(tmp_path, 5, 1, ["center_single"], progress=lambda *done: calls.append(done))
    assert count == 1
    assert calls == [(5, 5)]
    assert bytes_below(tmp_path) == whole
    assert make(tmp_path, 5, 1, ["center_single"]) == 0


def test_predict_is_the_solvers_choice_and_target_is_right(tmp_path):
    make(tmp_path, 3, 0)
    assert json.loads((tmp_path / generate.SETTINGS).read_text()) == {
        "seed": 0,
        "twins": True,
        "version": generate.VERSION,
    }
    for name in CONFIGURATIONS:
        for k in range(3):
            about = reader.read_metadata(files.path(tmp_path, name, k))
            expected = problem(0, name, k)
            assert about.target == expected.target
            assert about.predict == generate.predict(expected)


def test_a_folder_of_other_problems_is_refused(tmp_path, originals):
    make(tmp_path / "one", 1, 1, ["center_single"])
    for arguments in ({"seed": 2}, {"seed": 1, "lookalikes": False}):
        with pytest.raises(ProbesError, match="other data"):
            make(tmp_path / "one", 1, configurations=["center_single"], **arguments)
    (tmp_path / "one" / generate.SETTINGS).write_text("{")
    with pytest.raises(ProbesError, match="cannot be read"):
        make(tmp_path / "one", 1, 1)
    with pytest.raises(ProbesError, match="not empty"):
        make(originals, 1, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ProbesError, match="cannot be written"):
        make(tmp_path / "file" / "below", 1, 1)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"per_config": 0}, "per_config is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"configurations": ["distribute_fuor"]}, "did you mean distribute_four"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, what):
    with pytest.raises(ProbesError, match=what):
        make(tmp_path, **{"per_config": 1, "seed": 0, **arguments})
    assert not list(tmp_path.iterdir())


def test_twins_are_kept_by_default_and_drawn_again_on_request():
    made = [problem(0, INNER, k) for k in range(700)]
    with_twin = [k for k, one in enumerate(made) if generate.has_lookalike(one)]
    assert 1 <= len(with_twin) <= 14  # 0.8 % in the original, 5.6 expected here
    for k in with_twin:
        again = problem(0, INNER, k, lookalikes=False)
        assert again != made[k]
        assert not generate.has_lookalike(again)
        pictures = generate.images(made[k])[8:]
        same = [np.array_equal(pictures[made[k].target], picture) for picture in pictures]
        assert sum(same) >= 2
    others = [k for k in range(20) if k not in with_twin]
    assert all(problem(0, INNER, k, lookalikes=False) == made[k] for k in others)
