import io
import pickle
import shutil
import zipfile

import numpy as np
import pytest

from probes.core.errors import ProbesError
from probes.core.types import Panels
from probes.tasks.iraven import reader
from probes.tasks.iraven.space import CONFIGURATIONS

NAME = "in_center_single_out_center_single"


@pytest.fixture
def npz(tmp_path, originals):
    """A copy of one of the original's files, without its XML."""
    path = tmp_path / NAME / "RAVEN_0_train.npz"
    path.parent.mkdir()
    shutil.copy(originals / NAME / path.name, path)
    return path


def rewrite(path, drop=(), **arrays):
    """Replace or drop arrays of an npz."""
    stored = dict(np.load(path, allow_pickle=False))
    stored |= arrays
    np.savez(path, **{name: array for name, array in stored.items() if name not in drop})


def test_the_originals_are_read(originals):
    items = reader.load(originals)
    assert len(items) == 8
    assert len({item.id for item in items}) == 8
    assert [item.stratum for item in items] == sorted(
        (item.stratum for item in items), key=list(CONFIGURATIONS).index
    )
    for item in items:
        path = originals / f"{item.id}.npz"
        assert item.media == Panels(path, 8, options=8, row=3)
        assert item.answer == int(np.load(path)["target"])
        assert item.options == tuple("ABCDEFGH")
        assert item.cluster == item.id
        assert dict(item.meta)["split"] == "train"
        assert dict(item.meta)["predict"] == str(item.answer)
        assert item.meta == tuple(sorted(item.meta))
        assert reader.images(path).shape == (16, 160, 160)
    assert dict(items[3].meta)["rules"] == (
        "Distribute_Three Position, Constant Type, Progression Size, Distribute_Three Color"
    )
    assert dict(items[-1].meta)["rules"].count(" | ") == 1


def test_by_configuration_split_and_number(tmp_path, originals):
    source = originals / "center_single" / "RAVEN_0_train.npz"
    for name in ("RAVEN_10_train", "RAVEN_2_train", "RAVEN_6_val", "RAVEN_8_test"):
        for configuration in ("center_single",):
            (tmp_path / configuration).mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / configuration / f"{name}.npz")
    (tmp_path / "center_single" / "notes.npz").write_bytes(b"")
    numbers = [item.id.split("/")[1] for item in reader.load(tmp_path)]
    assert numbers == ["RAVEN_2_train", "RAVEN_6_val", "RAVEN_8_test", "RAVEN_10_train"]
    assert len(reader.load(tmp_path, ["center_single"])) == 4
    with pytest.raises(ProbesError, match="no i-RAVEN problems"):
        reader.load(tmp_path, ["center_single", "distribute_four"])
    with pytest.raises(ProbesError, match="no such folder"):
        reader.load(tmp_path / "none")


def test_an_empty_folder_names_the_command_that_fills_it(tmp_path):
    with pytest.raises(ProbesError, match="probes data iraven"):
        reader.load(tmp_path)


def test_an_npz_alone_is_enough(npz):
    assert not npz.with_suffix(".xml").exists()
    (item,) = reader.load(npz.parents[1])
    assert item.answer == 3
    rewrite(npz, drop=("predict", "meta_matrix", "meta_target", "structure", "meta_structure"))
    (item,) = reader.load(npz.parents[1])
    assert item.answer == 3
    assert item.meta == (("rules", ""), ("split", "train"))


def test_byte_strings_of_python_2(npz):
    words = np.load(npz)["structure"]
    rewrite(npz, structure=words.astype("S"))
    assert np.load(npz)["structure"].dtype.kind == "S"
    assert reader.read_metadata(npz).structure == tuple(words.tolist())
    (item,) = reader.load(npz.parents[1])
    assert item.stratum == NAME


def test_compressed_files_are_read(npz):
    stored = dict(np.load(npz))
    np.savez_compressed(npz, **stored)
    np.testing.assert_array_equal(reader.images(npz), stored["image"])
    assert len(reader.load(npz.parents[1])) == 1


IMAGE = np.zeros((16, 160, 160), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"image": IMAGE[:15]}, r"uint8 \(15, 160, 160\)"),
        ({"image": IMAGE[:, :80]}, r"\(16, 80, 160\)"),
        ({"image": IMAGE.astype(np.float32)}, "float32"),
        ({"target": np.int64(8)}, "target is 8, not in 0..7"),
        ({"target": np.int64(-1)}, "target is -1"),
        ({"target": np.float64(1)}, "target is float64"),
        ({"target": np.arange(2)}, "one integer"),
        ({"predict": np.int64(9)}, "predict is 9"),
        ({"meta_matrix": np.zeros((9, 8), np.uint8)}, "meta_matrix"),
        ({"structure": np.arange(8)}, "structure is int64"),
        ({"structure": np.array(["Scene", "Singleton"])}, "structure is not that of"),
    ],
)
def test_wrong_arrays_are_named(npz, arrays, what):
    rewrite(npz, **arrays)
    with pytest.raises(ProbesError, match=what) as error:
        reader.load(npz.parents[1])
    assert error.value.where == str(npz)
    assert error.value.fix


@pytest.mark.parametrize("name", ["image", "target"])
def test_missing_arrays_are_named(npz, name):
    rewrite(npz, drop=(name,))
    with pytest.raises(ProbesError, match=name):
        reader.load(npz.parents[1])


@pytest.mark.parametrize("kept", [0, 10, 30_000, 409_700, -1])
def test_truncated_files_are_named(npz, kept):
    npz.write_bytes(npz.read_bytes()[:kept])
    for read in (reader.images, reader.read_metadata):
        with pytest.raises(ProbesError, match="truncated or damaged") as error:
            read(npz)
        assert error.value.where == str(npz)


def test_changed_bytes_are_found(npz):
    content = bytearray(npz.read_bytes())
    content[200_000] ^= 1
    npz.write_bytes(bytes(content))
    with pytest.raises(ProbesError, match="truncated or damaged"):
        reader.images(npz)


def short_image(path):
    """Write an image member that ends before its header says."""
    buffer = io.BytesIO()
    np.save(buffer, IMAGE)
    stored = dict(np.load(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", buffer.getvalue()[:-1000])
        for name in stored.keys() - {"image"}:
            member = io.BytesIO()
            np.save(member, stored[name])
            archive.writestr(f"{name}.npy", member.getvalue())


def test_a_short_array_in_an_intact_archive_is_found(npz):
    short_image(npz)
    with pytest.raises(ProbesError, match=r"no plain array|truncated"):
        reader.images(npz)


class Trap:
    """Leaves a mark when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return (spring, ())


def spring():
    Trap.sprung = True


@pytest.mark.parametrize("name", ["image", "target", "structure", "meta_matrix"])
def test_pickled_objects_are_refused_and_never_run(npz, name):
    objects = np.empty((), object)
    objects[()] = Trap()
    rewrite(npz, **{name: objects})
    with pytest.raises(ProbesError):
        reader.load(npz.parents[1])
    with pytest.raises(ProbesError):
        reader.read_metadata(npz)
    assert not Trap.sprung


def test_a_bare_pickle_is_refused(npz):
    npz.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ProbesError, match="truncated or damaged"):
        reader.images(npz)
    assert not Trap.sprung


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProbesError, match="missing"):
        reader.images(tmp_path / "nothing.npz")
