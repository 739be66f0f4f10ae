"""Unpaired translation, a baseline arm: CUT trained on simulated frames and a handful of photos, as an editor.

Park et al. 2020, "Contrastive Learning for Unpaired Image-to-Image Translation" (arXiv:2007.15651). A generator makes
photos of frames; a discriminator of patches says how real they look, and a contrastive loss ties each patch of the
output to the patch of the input in the same place. Networks and losses are in `cut`.
Equation numbers are the paper's; where we leave it or the authors' code (taesungp/contrastive-unpaired-translation)
is said at the line.

    editor = train_cut(frames, photos, CutSettings(), RunFolder.open("runs/cut", config))
    augment("sim.zarr", editor, "edited.zarr")

Legend: N frames, P photos, B images of a batch, S patches of an image, D dimensions of a patch's embedding, h w pixels
of a feature map. At rest images are (count, H, W, 3) uint8; in the networks (B, 3, H, W) float in [-1, 1].
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sim2real_aug.augment.classical import no_noise
from sim2real_aug.augment.cut import (
    STRIDE,
    CutGenerator,
    PatchDiscriminator,
    PatchHeads,
    adversarial_loss,
    discriminator_loss,
    patch_nce,
)
from sim2real_aug.augment.provenance import differences
from sim2real_aug.data.photos import as_photo_set, read_photos, write_photos
from sim2real_aug.devices import resolve_device
from sim2real_aug.editor.editor import EditSettings
from sim2real_aug.errors import BadInput, Fault, below_least
from sim2real_aug.pixels import to_frames, to_images
from sim2real_aug.progress import progress
from sim2real_aug.runs import RunFolder, save_atomically
from sim2real_aug.seeding import derive_seed, numpy_generator

CHECKPOINT = "cut.pt"
Record = dict[str, Any]  # JSON values
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class CutSettings:
    """How a translator is trained; temperature, betas, rate and weights are the paper's. BadInput lists every mistake.

    crop: pixels a side of the random crops, mirrored or not, that photos and frames alike are trained on.
    channels: of the generator's first features and of the discriminator's; four times as many in its `blocks`.
    patches, embedding: S and D of the contrastive loss. nce_weight: its weight beside the adversarial loss.
    identity_nce: also ask that photos stay what they are.
    """

    steps: int = 3000
    batch_size: int = 4
    learning_rate: float = 2e-4
    adam_betas: tuple[float, float] = (0.5, 0.999)
    crop: int = 72
    channels: int = 16
    blocks: int = 4
    patches: int = 128
    embedding: int = 64
    temperature: float = 0.07
    nce_weight: float = 1.0
    identity_nce: bool = True
    log_every: int = 50
    checkpoint_every: int = 250
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        mistakes = below_least(
            self, steps=1, batch_size=1, crop=16, channels=1, blocks=2, patches=2, embedding=1, log_every=1,
            checkpoint_every=1,
        )  # fmt: skip
        mistakes += [
            f"{name} must be positive and finite; got {value}"
            for name in ("learning_rate", "temperature")
            if not 0 < (value := getattr(self, name)) < math.inf
        ]
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            mistakes.append(f"adam_betas must be two numbers at least 0 and below 1; got {self.adam_betas}")
        if not 0 <= self.nce_weight < math.inf:
            mistakes.append(f"nce_weight must be finite and not negative; got {self.nce_weight}")
        if self.crop % STRIDE:
            mistakes.append(f"crop must be a multiple of {STRIDE}; got {self.crop}")
        if mistakes:
            raise BadInput("cut: " + "; ".join(mistakes))


class _Training:
    """Networks and optimisers: all that changes during a run, new from the seed."""

    def __init__(self, image_size: int, settings: CutSettings) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(settings.seed, "cut weights"))
            self.generator = CutGenerator(image_size, settings.channels, settings.blocks)
            self.heads = PatchHeads(self.generator.feature_channels, settings.embedding)
            self.discriminator = PatchDiscriminator(settings.channels)
        self.settings, self.device = settings, resolve_device(settings.device)
        adam: dict[str, Any] = {"lr": settings.learning_rate, "betas": settings.adam_betas}
        makers = [self.generator.to(self.device), self.heads.to(self.device)]
        self.making = torch.optim.Adam(itertools.chain(*(part.parameters() for part in makers)), **adam)
        self.judging = torch.optim.Adam(self.discriminator.to(self.device).parameters(), **adam)
        self.parts = ("generator", "heads", "discriminator", "making", "judging")

    def save(self, path: Path, step: int, made_from: Record) -> None:
        """Write the state; a crash leaves the former file whole."""
        state = {part: getattr(self, part).state_dict() for part in self.parts}
        save_atomically({**state, "step": step, "made_from": made_from}, path)

    def restore(self, path: Path, made_from: Record) -> int:
        """The step to go on from: 0 without a checkpoint. Raises BadInput for one of other settings or images."""
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True, map_location="cpu")
        _refuse_other(path, state["made_from"], made_from)
        for part in self.parts:
            getattr(self, part).load_state_dict(state[part])
        return int(state["step"])

    def step(self, frames: Frames, photos: Frames, step: int) -> dict[str, float]:
        """One update of the discriminator, one of generator and heads; all chance is from (seed, step)."""
        settings, rng = self.settings, numpy_generator(self.settings.seed, "cut", step)
        source = draw_crops(frames, settings.batch_size, settings.crop, rng).to(self.device)
        real = draw_crops(photos, settings.batch_size, settings.crop, rng).to(self.device)
        features = self.generator.encode(torch.cat([source, real]) if settings.identity_nce else source)
        output = self.generator.decoder(features[-1])
        fake = output[: len(source)]

        judged = discriminator_loss(self.discriminator(real), self.discriminator(fake.detach()))
        self._descend(self.judging, judged, "discriminator's", step)
        # Equation 5. The mean over frames and photos halves its two lambdas, as the authors' code does
        places = [
            torch.from_numpy(rng.permutation(f[0, 0].numel())[: settings.patches]).to(self.device)
            for f in features
        ]
        keys = self.heads([feature.detach() for feature in features], places)
        queries = self.heads(self.generator.encode(output), places)
        adversarial = adversarial_loss(self.discriminator(fake))
        nce = patch_nce(queries, keys, settings.temperature)
        self._descend(self.making, adversarial + settings.nce_weight * nce, "generator's", step)
        return {"discriminator": judged.item(), "adversarial": adversarial.item(), "nce": nce.item()}

    def _descend(self, optimizer: torch.optim.Adam, loss: Tensor, whose: str, step: int) -> None:
        """One step of Adam; its rate falls linearly to 0 over the second half, as in the paper's appendix."""
        trained = optimizer.param_groups[0]["params"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=trained)
        norm = nn.utils.clip_grad_norm_(trained, math.inf)  # measured, not clipped
        if not torch.isfinite(loss + norm):
            raise Fault(
                f"cut: the {whose} loss is {loss.item()}, its gradient's norm {norm.item()}, at step {step}; the last "
                "checkpoint stays: lower the learning rate"
            )
        fall = min(1.0, 2 - 2 * step / self.settings.steps)
        optimizer.param_groups[0]["lr"] = self.settings.learning_rate * fall
        optimizer.step()


def draw_crops(images: Frames, count: int, crop: int, rng: np.random.Generator) -> Tensor:
    """Random images (n, H, W, 3) as crops (count, 3, crop, crop) in [-1, 1], mirrored by an even chance."""
    chosen = images[rng.integers(len(images), size=count)]
    tops, lefts = (rng.integers(side - crop + 1, size=count) for side in images.shape[1:3])
    ways = rng.choice([1, -1], size=count)
    crops = [
        image[top : top + crop, left : left + crop][:, ::way]
        for image, top, left, way in zip(chosen, tops, lefts, ways, strict=True)
    ]
    return to_images(np.stack(crops)) * 2 - 1


def train_cut(frames: Frames, photos: Frames, settings: CutSettings, run: RunFolder) -> CutEditor:
    """Train on frames (N, S, S, 3) and photos (P, S, S, 3); the editor, which is kept in `run` as editor/.

    A run that was interrupted goes on exactly, a finished one is loaded. Raises BadInput for images of other shapes or
    smaller than the crops, and for a run of other settings or images; Fault on a loss that is not finite, the last
    checkpoint stays.
    """
    _check(frames, photos, settings.crop)
    made_from = _describe(frames, photos, settings)
    finished = run.summary()
    if finished is None:
        _train(frames, photos, settings, run, made_from)
    else:
        _refuse_other(run.path, finished["made_from"], made_from)
    return CutEditor.load(run.path / "editor", settings.device)


def _train(frames: Frames, photos: Frames, settings: CutSettings, run: RunFolder, made_from: Record) -> None:
    training, checkpoint = _Training(frames.shape[1], settings), run.checkpoint(CHECKPOINT)
    start = training.restore(checkpoint, made_from)
    run.rewind(start)
    begun = time.monotonic()
    with progress("training CUT", settings.steps, start, "steps") as bar:
        for done in range(start + 1, settings.steps + 1):
            figures = training.step(frames, photos, done - 1)
            if done % settings.log_every == 0 or done == settings.steps:
                run.log(done, {**figures, "seconds": round(time.monotonic() - begun, 1)})
            if done % settings.checkpoint_every == 0 or done == settings.steps:
                training.save(checkpoint, done, made_from)
            bar.advance(note=f"adversarial {figures['adversarial']:.3f}, NCE {figures['nce']:.3f}")
    CutEditor(training.generator, photos).save(run.path / "editor")
    run.write_summary({"made_from": made_from})


def _describe(frames: Frames, photos: Frames, settings: CutSettings) -> Record:
    """What decides the weights, as JSON has it: all settings but where it runs and how often it logs and saves."""
    indecisive = ("device", "log_every", "checkpoint_every")
    made_from = {name: value for name, value in asdict(settings).items() if name not in indecisive}
    for name, images in (("frames", frames), ("photos", photos)):
        made_from[name] = hashlib.blake2b(images.tobytes(), digest_size=16).hexdigest()
    return dict(json.loads(json.dumps(made_from)))


def _refuse_other(place: Path, begun: Record, wanted: Record) -> None:
    if changed := differences(begun, wanted):
        raise BadInput(f"{place} is of a run of another {', '.join(changed)}; choose another run folder")


def _check(frames: Frames, photos: Frames, crop: int) -> None:
    for name, images in (("frames", frames), ("photos", photos)):
        square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
        if not square or images.dtype != np.uint8 or len(images) == 0:
            raise BadInput(f"{name} must be (count, side, side, 3) uint8; got {images.shape} {images.dtype}")
    size = frames.shape[1]
    if photos.shape[1] != size or size % STRIDE or size < crop:
        raise BadInput(
            f"frames and photos must have the same side, a multiple of {STRIDE} and at least crop={crop}; "
            f"got {size} and {photos.shape[1]}"
        )


class CutEditor:
    """A trained translator in the place of an `Editor`: the look is in its weights, visual prompts are not looked at.

    photos: (P, S, S, 3) uint8, those it was trained on, named in an edited store as its visual prompts.
    """

    def __init__(self, generator: CutGenerator, photos: Frames, name_or_path: str = "") -> None:
        self.generator, self.photos = generator.requires_grad_(False).eval(), photos
        self.components, self.name_or_path = {"generator": self.generator}, name_or_path
        self.edit_settings = EditSettings("", 1, 1.0, 1.0, 1.0, photos_per_edit=0)  # one pass, no instruction

    @property
    def device(self) -> torch.device:
        return self.generator.device

    @property
    def image_size(self) -> int:
        """Pixels a side of the images that it was trained on."""
        return int(self.generator.config.image_size)

    initial_latents = staticmethod(no_noise)

    @torch.no_grad()
    def edit(self, source: Tensor, photos: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Translated images (B, 3, H, W) in [0, 1] of `source`, each by itself; the rest is not looked at.

        Raises BadInput for sides that are no multiples of 4.
        """
        return self.generator(source * 2 - 1) / 2 + 0.5

    def __call__(self, frames: Frames, photos: Frames | None = None, seed: int = 0) -> Frames:
        """Translated frames (B, H, W, 3)."""
        return to_frames(self.edit(to_images(frames, self.device)))

    def save(self, folder: str | Path) -> None:
        """Write config.json and safetensors, the photos beside them as photos/*.png."""
        self.generator.save_pretrained(folder)
        write_photos(as_photo_set(self.photos), Path(folder) / "photos")

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> CutEditor:
        """Load a folder that `save` wrote. Raises BadInput for anything else."""
        photos = read_photos(Path(folder) / "photos")
        if photos is None or not (Path(folder) / "config.json").is_file():
            raise BadInput(f"{folder} is not a CUT editor: it has no config.json or no photos")
        try:
            generator = CutGenerator.from_pretrained(folder, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"{folder} does not load as a CUT editor: {' '.join(str(error).split())}"
            ) from error
        return cls(generator.to(resolve_device(device)), photos.images, str(folder))
