"""Images of every kind that users have: decoded as their format says, or named."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs.errors import UserError
from configs.schema import Data, DataSet
from data import folder

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
RNG = np.random.default_rng(0)


def decoded(path: Path, channels: int = 3) -> np.ndarray:
    return folder.decode(path, (8, 8, channels))


def test_sixteen_bits_become_eight_by_their_share_of_white(tmp_path):
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / name)
        assert np.array_equal(decoded(tmp_path / name, 1)[..., 0], GREY)
        assert np.array_equal(decoded(tmp_path / name), np.repeat(GREY[..., None], 3, 2))


def test_a_tiff_whose_white_is_zero_is_what_it_shows(tmp_path):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[262] == 0 and np.array_equal(np.asarray(image) // 257, GREY)  # as stored
    assert np.array_equal(decoded(tmp_path / "a.tif", 1)[..., 0], 255 - GREY)


def test_numbers_without_a_known_white_are_named(tmp_path):
    for kind in ("float32", "int32"):
        Image.fromarray(GREY.astype(kind)).save(tmp_path / f"{kind}.tif")
        with pytest.raises(UserError, match=f"broken image .*{kind}.tif: pixels of mode ., whose white is not known"):
            decoded(tmp_path / f"{kind}.tif")


def test_a_picture_with_damaged_metadata_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(folder.ImageOps, "exif_transpose", lambda _: struct.unpack("i", b"?"))
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="broken image .*a.png"):
        decoded(tmp_path / "a.png")


def test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.fromarray(GREY).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decoded(tmp_path / "turned.png", 1)[..., 0], np.rot90(GREY, -1))


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4, 3] = 255  # black on the left, nothing on the right
    pixels[0, 7] = (255, 0, 0, 51)  # a fifth of red
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = decoded(tmp_path / "a.png")
    assert (image[:, :4] == 0).all() and (image[1:, 4:] == 255).all() and image[0, 7].tolist() == [255, 204, 204]
    Image.fromarray(GREY // 16).convert("P").save(tmp_path / "p.png", transparency=0)
    assert (decoded(tmp_path / "p.png")[0, :4] == 255).all()


@pytest.fixture
def tree(tmp_path) -> tuple[DataSet, str, Data]:
    for name in [f"{c}/{i}.png" for c in "ab" for i in range(20)] + ["a/bitmap.bmp", "a/scan.tif", "a/SCAN.TIFF"]:
        file = tmp_path / "birds/train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    source = DataSet(source="folder", root=str(tmp_path / "birds"))
    return source, "train", Data(train=source, size=8, channels=1, decoded=str(tmp_path / "decoded"))


def test_every_kind_is_found_other_files_are_counted_and_a_picture_in_two_classes_is_named(tree, tmp_path, capsys):
    (tmp_path / "birds/train/a/notes.txt").write_text("no image")
    (tmp_path / "birds/train/b/same.png").write_bytes((tmp_path / "birds/train/a/3.png").read_bytes())
    assert len(folder.load(*tree)) == 44
    said = capsys.readouterr().out
    assert "birds: 1 files below" in said and "are not images" in said
    assert "birds: 1 images are in two classes, such as train/a/3.png and train/b/same.png" in said


def test_a_link_to_a_class_is_a_class_too(tree, tmp_path, capsys):
    (tmp_path / "birds/train/c").symlink_to(tmp_path / "birds/train/a")
    assert folder.load(*tree).classes == ["a", "b", "c"]
    assert "left out" not in capsys.readouterr().out
    (tmp_path / "birds/train/loose.png").write_bytes((tmp_path / "birds/train/a/3.png").read_bytes())
    folder.load(*tree)
    assert "birds: 1 images below" in capsys.readouterr().out


def test_decoded_images_that_were_changed_are_made_again(tree, capsys):
    pixels = folder.load(*tree).images.clone()
    (kept,) = Path(tree[2].decoded).glob("*.npy")
    content = bytearray(kept.read_bytes())
    content[-200:] = bytes(255 - byte for byte in content[-200:])
    kept.write_bytes(content)
    assert torch.equal(folder.load(*tree).images, pixels)
    assert "altered since it was written" in capsys.readouterr().out
