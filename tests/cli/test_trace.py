"""`kbsync trace`, with a tiny model and a store of its facts."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kbsync.cli.heatmap import colour, draw, peak
from kbsync.cli.png import Canvas
from kbsync.cli.trace import title_of
from tests.cli.conftest import Call, data, error, url_of
from tests.sync.heads_of_government import COUNTRIES, KNOWN, SAID, fill, save_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder."""
    return save_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def traced(call: Call, config: Path, tiny: Path) -> Call:
    """`call` on a store with facts, some of which the model knows."""
    text = config.read_text().replace("[model]", f'[model]\nbase = "{tiny}"\ndevice = "cpu"\nthreads = 1')
    config.write_text(text)
    fill(url_of(config))
    return call


def pixels(png: bytes) -> list[list[tuple[int, ...]]]:
    """A PNG's pixels, read with the checks of the standard: signature, chunks, their sums."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 2, 0, 0, 0]
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (1 + 3 * width)
    lines = [raw[i : i + 1 + 3 * width] for i in range(0, len(raw), 1 + 3 * width)]
    assert all(line[0] == 0 for line in lines)
    return [[tuple(line[1 + 3 * x : 4 + 3 * x]) for x in range(width)] for line in lines]


def test_json_file_and_picture(traced: Call, config: Path) -> None:
    """What is printed and what the file holds are one document; the picture is a whole PNG."""
    out, png = config.parent / "trace.json", config.parent / "trace.png"
    words = (
        "--facts",
        "20",
        "--samples",
        "2",
        "--window",
        "2",
        "--seed",
        "3",
        "--out",
        str(out),
        "--png",
        str(png),
    )
    found = data(traced("trace", *words, "--json"))
    assert json.loads(out.read_text()) == found
    assert (found["facts"], found["asked"], found["samples"]) == (KNOWN, len(COUNTRIES), 2)
    assert (found["window"], found["seed"]) == (2, 3)
    assert {one["object"] for one in found["traced"]} == {SAID}
    assert len(pixels(png.read_bytes())) > 3 * 6 * 18


def test_people_see_heat_maps_and_the_proposal(traced: Call) -> None:
    """Three panels with a row per layer; numbers stand in the cells, so that colour is not needed, and the peak
    of each panel is marked; below, the proposal beside `auto`."""
    shown = traced("trace", "--facts", "3", "--samples", "2").stdout
    found = data(traced("trace", "--facts", "3", "--samples", "2", "--json"))
    assert "\x1b" not in shown
    assert f"3 facts that the base model says, of {len(COUNTRIES)} asked" in shown
    panels = [shown.index(title_of(kind, 1)) for kind in ("hidden", "mlp", "attention")]
    assert panels == sorted(panels)
    for begin, kind in zip(panels, ("hidden", "mlp", "attention"), strict=True):
        lines = [line.split() for line in shown[begin:].splitlines()[3:7]]
        assert [line[0] for line in lines] == ["0", "1", "2", "3"]
        last = [line[3].rstrip("*") for line in lines]
        assert last == [f"{value:+.4f}" for value in found["effects"][kind]["mean"][2]]
        assert sum(cell.endswith("*") for line in lines for cell in line) >= 1
    below = [line.strip() for line in shown[panels[2] :].splitlines()]
    for name in ("proposal", "auto"):
        layers = ", ".join(map(str, found[name]["layers"]))
        (line,) = [line for line in below if line.startswith(f"{name} ") and "−" not in line]
        assert line.removeprefix(name).strip().startswith(f"{layers} ")


def test_nothing_is_made_where_there_is_no_store(call: Call, config: Path) -> None:
    """StoreError, before a model is loaded or a file made."""
    before = sorted(config.parent.iterdir())
    assert error(call("trace", "--json"))["exit_code"] == 4
    assert sorted(config.parent.iterdir()) == before


def test_a_store_without_facts(call: Call, config: Path, tiny: Path) -> None:
    """One line that says to sync first."""
    config.write_text(config.read_text().replace("[model]", f'[model]\nbase = "{tiny}"\ndevice = "cpu"'))
    assert call("db", "upgrade").exit_code == 0
    found = error(call("trace", "--json"))
    assert found["exit_code"] == 4
    assert "kbsync sync" in found["message"]


@pytest.mark.parametrize("option", ["--out", "--png"])
def test_a_place_that_cannot_be_written(traced: Call, config: Path, option: str) -> None:
    """A missing folder is named before anything is traced."""
    found = error(traced("trace", option, str(config.parent / "no-such" / "file"), "--json"))
    assert found["exit_code"] == 2
    assert "no-such" in found["message"]


@pytest.mark.parametrize("words", [("--facts", "0"), ("--samples", "0"), ("--window", "0"), ("--seed", "-1")])
def test_counts_that_make_no_sense(call: Call, words: tuple[str, str]) -> None:
    """A usage error."""
    assert call("trace", *words).exit_code == 2


def drawn(mean: torch.Tensor, proposal: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """The picture of made-up effects."""
    made = SimpleNamespace(effects=SimpleNamespace(mean=mean), window=2, proposal=proposal)
    return pixels(draw(made))  # type: ignore[arg-type]


def test_the_picture_shows_each_cell_in_its_colour() -> None:
    """Roles from top to bottom, layers from left to right; grey where nothing was measured, the peak darkest, and
    a line under the proposed layers of the MLP panel alone."""
    mean = torch.zeros(3, 6, 8, dtype=torch.float64)
    mean[1, 2, 3], mean[1, 2, 4], mean[1, 5, 7] = 0.4, 0.2, -0.4
    mean[:, 4] = torch.nan
    picture = drawn(mean, (2, 3, 4))
    top, panel = 30, 30 + 6 * 18 + 54

    def cell(kind: int, role: int, layer: int) -> tuple[int, ...]:
        return picture[kind * panel + top + role * 18 + 9][280 + layer * 18 + 9]

    assert cell(1, 2, 3) == colour(0.4, 0.4) == (20, 70, 140)
    assert cell(1, 2, 4) == colour(0.2, 0.4)
    assert cell(1, 5, 7) == colour(-0.4, 0.4) == (150, 70, 20)
    assert cell(0, 2, 3) == cell(1, 0, 0) == (255, 255, 255)
    assert cell(2, 4, 6) == (225, 225, 225)
    for kind in range(3):
        under = picture[kind * panel + top + 6 * 18 + 2]
        dark = {(x - 280) // 18 for x, dots in enumerate(under) if dots == (30, 30, 30)}
        assert dark == ({2, 3, 4} if kind == 1 else set())


def test_colours_say_how_much() -> None:
    """The higher the effect, the darker; where nothing has an effect, nothing is coloured."""
    shades = [sum(colour(share, 1.0)) for share in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert shades == sorted(set(shades), reverse=True)
    assert colour(0.0, 0.0) == colour(-1.0, -1.0) == (255, 255, 255)
    assert peak(torch.tensor([[0.1, float("nan")], [0.3, -0.9]])) == pytest.approx(0.3)


def test_a_canvas_cuts_what_does_not_fit() -> None:
    """Words and boxes at the edge leave a whole picture; letters are there, what has no letter is blank."""
    canvas = Canvas(40, 12)
    canvas.text(20, 1, "WWWWWW", (0, 0, 0))
    canvas.box(38, 10, 9, 9, (1, 2, 3))
    canvas.box(90, 0, 5, 5, (1, 2, 3))
    found = pixels(canvas.png())
    assert [len(line) for line in found] == [40] * 12
    assert found[11][39] == (1, 2, 3)
    assert any(dot == (0, 0, 0) for dot in found[3])
    blank, written = Canvas(20, 12), Canvas(20, 12)
    blank.text(0, 0, "é", (0, 0, 0))
    written.text(0, 0, "e", (0, 0, 0))
    assert {dot for line in pixels(blank.png()) for dot in line} == {(255, 255, 255)}
    assert pixels(written.png()) != pixels(blank.png())
