"""RandAugment in batches: what torchvision makes of one image, for each image by its own draws."""

import pytest
import torch
from torchvision.transforms import v2

from nascli.config import DataConfig
from nascli.data.transforms import BatchRng, Normalizer, augment_batch, rand_augment

BYTES = Normalizer((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(seed: int) -> BatchRng:
    return BatchRng(generator(seed))


def noise(count: int, size: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(1))


@pytest.mark.parametrize("magnitude", [0, 9, 17, 30])
def test_one_operation_gives_what_torchvisions_gives_and_every_one_occurs(magnitude: int) -> None:
    image = noise(1)
    theirs = v2.RandAugment(num_ops=1, magnitude=magnitude)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        possible = torch.unique(torch.stack([theirs(image[0]) for _ in range(400)]), dim=0)
    found = torch.unique(rand_augment(image.expand(600, -1, -1, -1), 1, magnitude, draws(2)), dim=0)
    apart = (found[:, None].int() - possible[None].int()).abs().flatten(2).amax(2)  # rounded amounts may differ by 1
    assert int(apart.amin(dim=0).max()) <= 1
    assert int(apart.amin(dim=1).max()) <= 1
    assert len(found) >= (23 if magnitude else 3)


def test_each_image_has_draws_of_its_own() -> None:
    image = noise(1)
    found = rand_augment(image.expand(64, -1, -1, -1), 2, 9, draws(0))
    assert len(torch.unique(found, dim=0)) > 40
    assert torch.equal(image, noise(1))


def test_what_an_image_becomes_does_not_depend_on_its_neighbours() -> None:
    images = noise(50)
    others = images.clone()
    others[::2] = 255 - others[::2]
    first, second = (rand_augment(each, 2, 9, draws(3)) for each in (images, others))
    assert torch.equal(first[1::2], second[1::2])
    assert not torch.equal(first[::2], second[::2])


def test_the_seed_decides_and_none_is_none() -> None:
    images = noise(32)
    assert torch.equal(rand_augment(images, 2, 9, draws(4)), rand_augment(images, 2, 9, draws(4)))
    assert not torch.equal(rand_augment(images, 2, 9, draws(4)), rand_augment(images, 2, 9, draws(5)))
    assert rand_augment(images, 0, 9, draws(4)) is images


def test_a_recipe_switches_it_on_after_crop_and_flip() -> None:
    images = noise(32)
    state = torch.get_rng_state()
    plain = DataConfig(crop_padding=2, flip=True)
    before = (augment_batch(images, plain, BYTES, draws(6)) * 255).round().byte()
    asked = plain.model_copy(update={"rand_augment": 2, "rand_augment_magnitude": 5})
    used = generator(6)
    torch.randint(5, (2, 32), generator=used)
    torch.rand(32, generator=used)
    expected = rand_augment(before, 2, 5, BatchRng(used))
    assert torch.equal((augment_batch(images, asked, BYTES, draws(6)) * 255).round().byte(), expected)
    assert torch.equal(torch.get_rng_state(), state)
