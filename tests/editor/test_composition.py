"""Visual prompts in the source's layout: what is taken out of photos, and what is put where."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from sim2real_aug.data.photos import PhotoSet
from sim2real_aug.data.regions import REGIONS
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.composition import (
    BLOCK,
    PUSHER,
    TABLE,
    Bench,
    composer_for,
    label_regions,
    say_what_is_hidden,
    take_apart,
)
from sim2real_aug.editor.editor import Conditioning, Editor, EditSettings
from sim2real_aug.editor.guidance import GuidanceScales
from sim2real_aug.editor.masks import SOFT
from sim2real_aug.editor.pushers import read_pushers
from sim2real_aug.editor.shadows import Shadows
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.errors import BadInput
from sim2real_aug.pixels import to_images

from ..tiny_editor import SIZE as EDITOR_SIZE
from ..tiny_editor import build_editor

SIZE = 32
WOOD, BLUE, RED = torch.tensor([0.6, 0.5, 0.3]), torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.9, 0.1, 0.1])
SOFTLY = {"atol": 1e-3, "rtol": 0}  # of a picture this small hardly more than the pixels at an edge are mixed
PLACES = ((4, 4), (18, 4), (10, 20))


def layout(row: int, column: int) -> Tensor:
    """Labels (S, S): a block of 8 x 8 at a place, a pusher of 3 x 3 under it."""
    labels = torch.full((SIZE, SIZE), TABLE)
    labels[row : row + 8, column : column + 8] = BLOCK
    labels[row + 9 : row + 12, column : column + 3] = PUSHER
    return labels


def picture(labels: Tensor, gain: float = 1.0) -> Tensor:
    """(3, S, S): a table that darkens to the right, a blue block, a red pusher."""
    shade = torch.linspace(1, 0.5, SIZE)
    image = WOOD[:, None, None] * shade.expand(3, SIZE, SIZE)
    for region, color in ((BLOCK, BLUE), (PUSHER, RED)):
        image = torch.where(labels == region, color[:, None, None], image)
    return image * gain


def shown(gains: tuple[float, ...] = (1.0, 1.0, 1.0)) -> tuple[Tensor, Tensor]:
    labels = torch.stack([layout(*place) for place in PLACES])
    return torch.stack([picture(each, gain) for each, gain in zip(labels, gains, strict=True)]), labels


def test_a_prompt_shows_the_bench_with_objects_where_the_source_has_them() -> None:
    wanted = layout(12, 11)
    prompts = take_apart(*shown()).seen_as(wanted[None].repeat(3, 1, 1), torch.arange(3)).images
    torch.testing.assert_close(prompts, picture(wanted).repeat(3, 1, 1, 1), **SOFTLY)


def test_the_block_casts_its_shadow_as_in_the_photos() -> None:
    def lit(labels: Tensor) -> Tensor:
        count = len(labels)
        shadows = Shadows(torch.tensor([[1, 4]] * count), torch.zeros(count).long(), torch.full((count,), 0.5))
        whole = torch.stack([picture(each) for each in labels])
        return torch.where((labels == TABLE)[:, None], whole * shadows.cast(labels == BLOCK), whole)

    labels, wanted = torch.stack([layout(*place) for place in PLACES]), layout(12, 11)[None]
    prompt = take_apart(lit(labels), labels).seen_as(wanted, torch.tensor([1])).images
    torch.testing.assert_close(prompt, lit(wanted), atol=0.02, rtol=0)
    assert (prompt - picture(wanted[0])).abs().max() > 0.2


def test_edges_are_as_soft_as_a_lens_draws_them() -> None:
    """A Gaussian of 0.8 of 96 pixels over a straight edge: the pixels on either side are three and one quarter of
    it, to a few percent."""
    side, black, white = 96, torch.zeros(3), torch.ones(3)
    labels = torch.full((1, side, side), TABLE)
    labels[:, :, 48:] = BLOCK
    colors = torch.zeros(1, len(REGIONS), 3)
    colors[0, BLOCK] = white
    none = torch.zeros(1, dtype=torch.long)
    plates, shadows = black[None, :, None, None].expand(1, 3, side, side), Shadows(none.repeat(1, 2), none, none)
    nowhere = torch.zeros(1, 1, side, side, dtype=torch.bool)
    pushers = read_pushers(plates[None], plates[None], torch.zeros(1, 1, 3, 1, 1), nowhere, nowhere, nowhere)
    prompt = Bench(plates, colors, shadows, pushers, none.float()).seen_as(labels, torch.tensor([0])).images
    deviation = SOFT * side
    within = [math.exp(-(step**2) / (2 * deviation**2)) for step in range(-2, 3)]
    inner = sum(within[2:]) / sum(within)  # the pixel and what is right of it
    assert 0.7 < inner < 0.8
    torch.testing.assert_close(prompt[0, :, 50, 48], torch.full((3,), inner))
    torch.testing.assert_close(prompt[0, :, 50, 47], torch.full((3,), 1 - inner))
    assert prompt[0, 0, 50, 44] == 0
    torch.testing.assert_close(prompt[0, :, 50, 95], white)


def test_prompts_are_the_same_within_autocast() -> None:
    bench, wanted = take_apart(*shown()), layout(12, 11)[None]
    exact = bench.seen_as(wanted, torch.tensor([0])).images
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(bench.seen_as(wanted, torch.tensor([0])).images, exact, atol=4e-3, rtol=0)


def test_each_photo_keeps_its_own_exposure() -> None:
    photos, labels = shown((1.0, 0.9, 0.9))
    plates = take_apart(photos, labels).plates
    empty = picture(torch.full((SIZE, SIZE), TABLE))
    assert (plates[0] - empty).abs().max() < 0.05
    assert (plates[0] - plates[1]).mean() > 0.025


def test_photos_of_uneven_light_make_an_even_plate() -> None:
    """Each photo hides another part of the bench, so each part is the middle of other photos."""
    empty = picture(torch.full((SIZE, SIZE), TABLE))
    _, labels = shown()
    photos = torch.stack([picture(each) + light for each, light in zip(labels, (0.0, 0.05, -0.05), strict=True)])
    plate = take_apart(photos, labels).plates[0]
    assert (plate - empty - (plate - empty).mean()).abs().max() < 0.01


def test_of_two_photos_the_shadows_of_both_are_taken_out() -> None:
    photos, labels = (part[:2] for part in shown())
    photos[0, :, 26:30, 26:30] = photos[1, :, 26:30, 2:6] = 0.2
    plate = take_apart(photos, labels).plates[0]
    assert (plate - picture(torch.full((SIZE, SIZE), TABLE))).abs().max() < 0.06, "0.3 with a shadow"


def test_what_was_not_recognised_is_taken_out_where_other_photos_show_the_table() -> None:
    photos, labels = shown()
    photos[0, :, 26:30, 26:30] = 0.0  # a shadow, which has no region
    plates = take_apart(photos, labels).plates
    torch.testing.assert_close(plates[0], picture(torch.full((SIZE, SIZE), TABLE)))


@pytest.mark.parametrize("seen_by_all", [False, True])
def test_a_part_of_the_block_that_was_not_found_is_no_bench_unless_it_rests(seen_by_all: bool) -> None:
    labels = torch.stack([layout(4, 4), layout(4, 4), layout(4, 4) if seen_by_all else layout(18, 4)])
    photos = torch.stack([picture(each) for each in labels])
    corner = (slice(4, 12), slice(4, 7))  # of the block, in the first two photos at least
    labels[:, *corner] = TABLE
    plate = take_apart(photos, labels).plates[0]
    blue = (plate[:, *corner] - BLUE[:, None, None]).abs().amax(0) < 0.1
    assert bool(blue.any()) == seen_by_all, "where three photos of three agree, it may be a strip of blue tape"


@pytest.mark.parametrize(("gap", "bench"), [(4, False), (5, True)])
def test_a_sliver_between_what_moves_is_no_bench(gap: int, bench: bool) -> None:
    labels = torch.full((SIZE, SIZE), TABLE)
    labels[:, 4:12], labels[:, 12 + gap : 24] = BLOCK, PUSHER
    photo = picture(labels)
    photo[:, :, 12 : 12 + gap] = 0.0  # under the arm
    plate = take_apart(photo[None], labels[None]).plates[0]
    assert bool((plate < 0.01).all(0).any()) == bench


def test_of_one_photo_the_hole_is_filled_from_around_it() -> None:
    photos, labels = shown()
    plate = take_apart(photos[:1], labels[:1]).plates[0]
    assert torch.isfinite(plate).all()
    assert (plate - picture(torch.full((SIZE, SIZE), TABLE))).abs().max() < 0.1


def test_how_much_of_a_bench_no_photo_shows_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    photos, labels = shown()
    assert take_apart(photos, labels).hidden.tolist() == [0, 0, 0]
    alone = take_apart(photos[:1], labels[:1]).hidden.item()
    composer = composer_for(Composing(), photos, segmenter=Thresholds())
    say_what_is_hidden(composer)
    assert capsys.readouterr().err == ""
    say_what_is_hidden(composer_for(Composing(), photos[:1], segmenter=Thresholds()))
    assert "12% of the bench is hidden in every photo" in capsys.readouterr().err
    assert alone == (10 * 10 + 4 * 5) / SIZE**2, "a pixel around block and pusher, whose margins meet"


def test_a_photo_without_the_block_borrows_the_color_from_the_others() -> None:
    photos, labels = shown()
    labels[2] = TABLE
    photos[2] = picture(labels[2])
    torch.testing.assert_close(take_apart(photos, labels).colors[2, BLOCK], BLUE)


def test_a_large_shadow_taken_for_the_block_does_not_outvote_other_photos() -> None:
    photos, labels = shown()
    shadow = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    shadow[23:] = True
    photos[0], labels[0] = torch.where(shadow, 0.4 * photos[0], photos[0]), labels[0].masked_fill(shadow, BLOCK)
    torch.testing.assert_close(take_apart(photos, labels).colors[:, BLOCK], BLUE.expand(3, 3))


@pytest.mark.parametrize(("width", "larger", "stays"), [(2, 1, True), (8, 1, False), (1, 6, True), (8, 6, False)])
def test_a_stripe_of_the_bench_taken_for_the_pusher_stays_on_it(width: int, larger: int, stays: bool) -> None:
    """What is thick does not: it may be an arm that has one place in all photos. Larger photos make no difference."""
    photos, labels = shown()
    stripe = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    stripe[1:-1, 31 - width : 31] = True
    stripe &= (labels == TABLE).all(0)
    photos, labels = photos.masked_fill(stripe, 0.9), labels.masked_fill(stripe, PUSHER)
    photos, labels, stripe = (
        each.repeat_interleave(larger, -1).repeat_interleave(larger, -2) for each in (photos, labels, stripe)
    )
    seen = take_apart(photos, labels).plates[:, :, stripe]
    assert bool((seen == 0.9).all()) == stays


def test_an_arm_that_was_recognised_in_part_is_drawn_whole_and_covers_the_source() -> None:
    """A black arm from below to each pusher, of which the pusher alone was."""
    labels = torch.stack([layout(*place) for place in ((4, 4), (10, 14), (4, 24))])
    photos = torch.stack([picture(each) for each in labels])
    for photo, label in zip(photos, labels, strict=True):
        rows, columns = (label == PUSHER).nonzero().T
        photo[:, int(rows.max()) + 1 :, int(columns.min()) : int(columns.max()) + 1] = 0
    wanted = layout(6, 20)  # a pusher of 3 x 3 around row 16
    seen = take_apart(photos, labels).seen_as(wanted[None], torch.tensor([0]))
    assert seen.covered[0, 16:, 21].all()
    assert not seen.covered[0, :14].any()
    assert not seen.covered[0, :, 24:].any()
    assert seen.images[0, :, 28, 21].max() < 0.1
    torch.testing.assert_close(seen.images[0, :, :12], picture(wanted)[:, :12], **SOFTLY)


class Thresholds:
    """Finds blue blocks and red pushers."""

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        channel = {"block": 2, "pusher": 0}.get(phrase)
        if channel is None:
            return torch.zeros_like(images[:, 0], dtype=torch.bool)
        others = [c for c in range(3) if c != channel]
        return (images[:, channel] > 0.7) & (images[:, others].amax(1) < 0.4)


class Composing:
    composes = True


def test_regions_are_the_segmenters_and_the_table_elsewhere() -> None:
    photos, labels = shown()
    assert torch.equal(label_regions(Thresholds(), photos), labels)


@pytest.mark.parametrize("known", [True, False])
def test_a_composer_reads_sources_whose_regions_are_not_known(known: bool) -> None:
    photos, _ = shown()
    wanted = layout(12, 11)[None]
    composer = composer_for(Composing(), photos, segmenter=Thresholds())
    assert composer is not None
    source = picture(wanted[0])[None]
    if known:  # the labels count, not what the source looks like
        wanted = layout(4, 20)[None]
    prompts = composer(torch.tensor([[0, 2]]), source, wanted if known else None).images
    source = picture(wanted[0])[None]
    torch.testing.assert_close(prompts, source[:, None].repeat(1, 2, 1, 1, 1), **SOFTLY)


def test_a_users_outline_is_the_block_and_nothing_else_is() -> None:
    photos, labels = shown()
    given = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    given[0, 20:28, 20:28] = True  # the owner says that this table is the block
    composer = composer_for(Composing(), photos[:1], given[:1], Thresholds())
    assert composer is not None
    color = composer.bench.colors[0, BLOCK]
    assert (color - picture(torch.full_like(labels[0], TABLE))[:, 24, 24]).abs().max() < 0.05


def test_other_editors_take_photos_as_they_are() -> None:
    assert composer_for(object(), shown()[0]) is None


def test_a_prompt_of_the_shipped_judge_has_the_sources_layout() -> None:
    """Flat frames as photos: the composed prompt is the source itself."""
    renderer = make_renderer("flat")
    states = [np.array(s, float) for s in ([60, 60, 130, 380, 1.0], [450, 80, 380, 400, 2.5], [80, 450, 390, 130, 4])]
    photos = to_images(np.stack([renderer.render(state, 96).image for state in states]))
    source = to_images(renderer.render(np.array([300.0, 120.0, 150.0, 150.0, 0.3]), 96).image[None])
    composer = composer_for(Composing(), photos)
    assert composer is not None
    prompt = composer(torch.zeros(1, 1, dtype=torch.long), source).images[:, 0]
    assert (prompt - source).abs().mean() < 0.01


def test_an_editors_own_photos_count_with_their_masks() -> None:
    """The owner says of all photos that a patch of the table is the block."""
    renderer, editor = make_renderer("flat"), load_editor()
    states = [np.array(s, float) for s in ([60, 60, 130, 380, 1.0], [450, 80, 380, 400, 2.5], [80, 450, 390, 130, 4])]
    photos = np.stack([renderer.render(state, 96).image for state in states])
    patch = np.zeros((96, 96), bool)
    patch[2:10, 30:60] = True
    drawn = renderer.render(np.array([300.0, 120.0, 150.0, 150.0, 0.3]), 96)
    block = drawn.masks["block"]
    means = []
    for masks in (None, {name: patch for name in "abc"}):
        editor.photo_set = PhotoSet(photos, tuple("abc"), masks)
        means.append(editor(drawn.image[None])[0][block].mean())
    assert means[1] > means[0] + 40, "white as the table"


def composing_editor() -> Editor:
    plain = build_editor()
    scheduler = DDIMScheduler.from_config(plain.scheduler.config, prediction_type="v_prediction")
    return Editor(**{**plain.components, "scheduler": scheduler}, composes=True)


def test_a_network_that_predicts_nothing_gives_the_prompt_back() -> None:
    editor = composing_editor()
    for parameter in editor.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    prompt = torch.rand(2, 3, EDITOR_SIZE, EDITOR_SIZE, generator=torch.Generator().manual_seed(0))
    conditioning = editor.condition(torch.zeros_like(prompt), prompt, "a")
    wanted = conditioning.style * editor.vae.config.scaling_factor
    noisy = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    timestep = torch.tensor(700)
    output = editor.predict(noisy, timestep, conditioning, GuidanceScales(1.0, 1.0, 1.0))
    alpha = editor.scheduler.alphas_cumprod[timestep]
    clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * output  # what v says of the clean latents
    torch.testing.assert_close(clean, alpha.sqrt() * noisy + (1 - alpha) * wanted)


def test_an_edit_that_changes_nothing_is_the_prompt_in_full_sharpness() -> None:
    editor = composing_editor()
    prompts = torch.rand(2, 2, 3, EDITOR_SIZE, EDITOR_SIZE, generator=torch.Generator().manual_seed(0))
    conditioning = editor.condition(torch.zeros_like(prompts[:, 0]), prompts, "a")
    unchanged = conditioning.style * editor.vae.config.scaling_factor
    drawn = editor.draw(unchanged, conditioning)
    torch.testing.assert_close(drawn, prompts.mean(1))
    assert (editor.decode(unchanged) - prompts.mean(1)).abs().mean() > 0.05, "the autoencoder alone would lose it"
    twice = Conditioning.join([conditioning.repeat(2).index(slice(0, 2)), conditioning.index(slice(1, 2))])
    torch.testing.assert_close(editor.draw(unchanged[[0, 0, 1]], twice), drawn[[0, 0, 1]])
    plain = build_editor()
    assert plain.condition(prompts[:, 0], prompts, "a").detail is None


def test_half_of_a_change_is_half_way_to_the_whole_edit() -> None:
    editor = composing_editor()
    prompts = torch.full((1, 3, EDITOR_SIZE, EDITOR_SIZE), 0.5)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = {}
    for change in (1.0, 0.5):
        editor.edit_settings = replace(editor.edit_settings, change=change)
        drawn[change] = editor.draw(latents, editor.condition(prompts, prompts, "a"))
    inside = (drawn[1.0] > 0) & (drawn[1.0] < 1)  # elsewhere the whole edit is clipped
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(drawn[0.5][inside], (drawn[1.0] + prompts)[inside] / 2)


def test_a_change_that_cannot_be_drawn_in_part_is_refused() -> None:
    with pytest.raises(BadInput, match="change must be above 0 and at most 1; got 0"):
        EditSettings(change=0)
    with pytest.raises(BadInput, match=r"edit_settings\.change must be 1; got 0\.5"):
        build_editor().edit_settings = EditSettings(change=0.5)


def test_whether_an_editor_composes_is_saved_with_it(tmp_path: Path) -> None:
    composing_editor().save_pretrained(tmp_path / "composing")
    build_editor().save_pretrained(tmp_path / "plain")
    assert Editor.from_pretrained(tmp_path / "composing").composes
    assert not Editor.from_pretrained(tmp_path / "plain").composes


def test_an_editor_that_predicts_the_noise_cannot_compose() -> None:
    with pytest.raises(BadInput, match="predicts v; its scheduler's prediction_type is 'epsilon'"):
        Editor(**build_editor().components, composes=True)


def test_an_arm_that_is_taken_for_the_block_does_not_color_it() -> None:
    photos, labels = shown()
    photos[1] = torch.where(labels[1] == BLOCK, RED[:, None, None], photos[1])
    torch.testing.assert_close(take_apart(photos, labels).colors[:, BLOCK], BLUE.repeat(3, 1))
