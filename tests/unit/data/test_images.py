import io

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from gpg_vl.data.images import open_image, pixel_hash, store, upright_size
from gpg_vl.errors import RowError
from tests.support.inputs import noise

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def file_of(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def stored(data):
    """The stored file of an image's file, opened, and whether its bytes were kept."""
    result = store(open_image(data, "row 1"), "row 1")
    image = Image.open(io.BytesIO(result.data))
    image.load()
    assert image.size == result.size
    assert pixel_hash(image) == result.pixel_hash
    return image, result.data == data


def rotated(orientation, kind):
    """Red above blue as shown; stored as the EXIF orientation demands."""
    shown = Image.new("RGB", (16, 32), RED)
    shown.paste(BLUE, (0, 16, 16, 32))
    undo = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    return file_of(shown if undo is None else shown.transpose(undo), kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_file_that_needs_no_change_is_kept(kind, mode):
    image, kept = stored(file_of(noise(9, 7).convert(mode), kind))
    assert kept
    assert (image.format, image.mode) == (kind, mode)


def sixteen_bit(values):
    return Image.fromarray(np.array([values], dtype=np.uint16))


def palette(transparent):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    return file_of(image, transparency=1) if transparent else file_of(image)


def two_frames(kind):
    frames = [Image.new("RGB", (2, 1), RED), Image.new("RGB", (2, 1), BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def floats(values):
    return file_of(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")


def half_transparent(mode):
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    return file_of(image.convert(mode))


def colour_key():
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    return file_of(image, transparency=BLUE)


GREY = (76, 76, 76)  # red in luma


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (palette(False), (RED, BLUE)),
        (palette(True), (RED, WHITE)),
        (half_transparent("RGBA"), (RED, WHITE)),
        (half_transparent("LA"), (GREY, WHITE)),
        (colour_key(), (RED, WHITE)),
        (two_frames("GIF"), (RED, RED)),
        (two_frames("PNG"), (RED, RED)),
        (two_frames("WEBP"), (RED, RED)),
        (file_of(Image.fromarray(np.array([[True, False]]))), (WHITE, (0, 0, 0))),
        (file_of(sixteen_bit([0, 0x8080])), ((0, 0, 0), (128, 128, 128))),
        (file_of(sixteen_bit([0xFFFF, 0x00FF])), (WHITE, (1, 1, 1))),
        (file_of(Image.fromarray(np.array([[65535, 257]], dtype=np.int32)), "TIFF"), (WHITE, (1, 1, 1))),
        (floats([0.0, 1.0]), ((0, 0, 0), WHITE)),
        (floats([0.2, np.nan]), ((51, 51, 51), (0, 0, 0))),
        (floats([100.0, 255.0]), ((100, 100, 100), WHITE)),
        (floats([-1000.0, 4000.0]), ((0, 0, 0), WHITE)),
    ],
)
def test_unusual_images_become_eight_bit_rgb_without_transparency(data, pixels):
    image, kept = stored(data)
    assert not kept
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert not image.has_transparency_data and not getattr(image, "is_animated", False)
    assert tuple(image.getpixel((x, 0)) for x in (0, 1)) == pixels


def test_cmyk_becomes_rgb_with_its_colours():
    image, _ = stored(file_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert np.allclose(image.getpixel((8, 8)), RED, atol=3)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation_is_applied_once(kind, orientation):
    image, kept = stored(rotated(orientation, kind))
    assert kept == (orientation == 1)
    assert image.size == (16, 32)
    assert np.allclose(image.getpixel((8, 4)), RED, atol=3)
    assert np.allclose(image.getpixel((8, 28)), BLUE, atol=3)
    assert image.getexif().get(Base.Orientation, 1) == 1
    assert image.format == kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_upright_size_is_that_of_the_stored_image(kind, orientation):
    image = open_image(rotated(orientation, kind), "row 1")
    assert upright_size(image) == (16, 32)
    assert store(image, "row 1").size == (16, 32)


def test_an_orientation_behind_the_pixels_counts_and_keeps_the_file():
    data = rotated(6, "PNG")
    length = int.from_bytes(data[33:37], "big") + 12
    assert data[37:41] == b"eXIf"
    data = data[:33] + data[33 + length : -12] + data[33 : 33 + length] + data[-12:]
    image = open_image(data, "row 1")
    assert "exif" not in image.info
    assert upright_size(image) == store(image, "row 1").size == (16, 32)
    plain = file_of(noise(9, 7))
    image = open_image(plain, "row 1")
    assert upright_size(image) == (9, 7) and store(image, "row 1").data == plain


def test_broken_exif_does_not_cost_the_image():
    data = rotated(6, "JPEG").replace(b"Exif\0\0MM\0*", b"Exif\0\0MM\0?")
    image, kept = stored(data)
    assert kept and image.size == (32, 16)


def half(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unreadable image"),
        (b"no image", "unreadable image"),
        (half(file_of(noise(40, 40), "JPEG")), "unreadable image"),
        (half(file_of(noise(40, 40))), "unreadable image"),
        (half(two_frames("GIF")), "unreadable image"),
        (file_of(noise(40, 40)).replace(b"IDAT", b"IDAX"), "unreadable image"),
        (file_of(Image.new("L", (401, 2))), "extreme aspect ratio"),
        (file_of(Image.new("1", (10_000, 10_000))), "decompression bomb"),  # Pillow only warns
        (file_of(Image.new("1", (14_000, 14_000))), "decompression bomb"),
    ],
)
def test_bad_images_are_refused_with_the_row(data, reason):
    with pytest.raises(RowError, match="row 1: ") as caught:
        stored(data)
    assert caught.value.reason == reason


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_where_warnings_are_none():
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(RowError, match=r"10000×10000 pixels; the limit is 89,"),
    ):
        open_image(file_of(Image.new("1", (10_000, 10_000))), "row 1")


@pytest.mark.parametrize("name", ["missing.png", "folder", "x" * 300])
def test_a_path_without_a_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RowError, match="row 1: ") as caught:
        open_image(tmp_path / name, "row 1")
    assert caught.value.reason == ("unreadable image" if len(name) == 300 else "missing image")


def test_the_hash_is_of_the_pixels_not_of_the_file():
    image = noise(9, 7)
    same = [file_of(image), file_of(image, compress_level=0), file_of(image, "BMP")]
    assert len({store(open_image(data, "r"), "r").pixel_hash for data in same}) == 1
    assert pixel_hash(image) != pixel_hash(noise(9, 7, seed=1))
    assert pixel_hash(Image.new("RGB", (2, 8))) != pixel_hash(Image.new("RGB", (4, 4)))
    assert pixel_hash(Image.new("L", (2, 2), 9)) == pixel_hash(Image.new("RGB", (2, 2), (9, 9, 9)))
