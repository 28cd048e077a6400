"""The cache: used when it matches, made again when it does not, continued when it was cut."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

import uncertainty.cache
from configs.schema import McDropout
from data.dataset import Dataset
from data.views import make_views
from training import artifact
from training.run import begin
from uncertainty.cache import KIND, SampleCache
from uncertainty.mc_dropout import Sampler
from uncertainty.samples import statistics

SETTINGS = McDropout(passes=6, group_size=4)


@pytest.fixture
def toy() -> Dataset:
    images = torch.randint(0, 256, (18, 4, 4, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Dataset("toy", images, torch.zeros(18, dtype=torch.long), [""] * 18, ["a"])


@pytest.fixture
def get(tiny, toy):
    """Ask for samples as the scripts do; returns (tensors, log lines of this call)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), _Scale(), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    def get(settings=SETTINGS, keep=True, checksum="t", dataset=toy, network=network, wrap=None, overwrite=False):
        run, compute = begin(tiny, "test", overwrite)
        log = run / "log.txt"
        before = len(log.read_text())
        (view,) = make_views(["plain"], dataset, tiny.data.augmentation, 0, torch.device("cpu"))
        sampler = Sampler(network)
        sampler = partial(wrap, sampler) if wrap else sampler
        cache = SampleCache(tiny, run, compute, (sampler, sampler), checksum, anew=overwrite)
        tensors = cache.get(dataset, "train", view, settings, keep)
        return tensors, log.read_text()[before:]

    return get


class _Scale(nn.Module):
    def forward(self, x):
        return x.float() / 255


def path_of(tiny):
    return tiny.folder / "mc_samples/toy-train-plain-0x6.safetensors"


def test_samples_and_statistics_agree_and_are_read_back(get):
    made, said = get()
    assert "18 images x 6 passes" in said
    read, said = get()
    assert "there already" in said
    assert made.keys() == read.keys() and all(torch.equal(made[name], read[name]) for name in made)
    for name, value in statistics(read["log_probs"]).items():
        torch.testing.assert_close(read[name], value)
    assert read["group"].bincount().tolist() == [4, 4, 4, 4, 2]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"settings": McDropout(passes=6, group_size=5)}, "plan.group_size: 4 there, 5 asked for"),
        (
            {"settings": McDropout(passes=6, group_size=4, masks="independent")},
            "plan.masks: grouped there, independent asked for",
        ),
        ({"checksum": "another"}, "teacher: t there, another asked for"),
    ],
)
def test_a_cache_that_does_not_match_is_made_again_with_a_line_that_says_what_differs(get, change, said):
    get()
    _, log = get(**change)
    assert said in log and "making it again" in log


def test_kept_samples_do_not_matter_where_they_are_not_asked_for_and_are_made_where_they_are(get):
    get(keep=False)
    assert "keep_samples: False there, True asked for" in get()[1]
    assert "there already" in get(keep=False)[1]


def test_other_pixels_do_not_match(get, toy):
    get()
    images = toy.images.clone()
    images[3, 0, 0, 0] ^= 1
    assert "data:" in get(dataset=replace(toy, pixels=images))[1]


@pytest.mark.parametrize(
    "damage, said", [("truncate", "truncated or damaged"), ("alter", "altered since it was written")]
)
def test_a_damaged_file_is_detected_and_made_again(get, tiny, damage, said):
    made = {name: value.clone() for name, value in get()[0].items()}  # they are mapped from the file
    content = bytearray(path_of(tiny).read_bytes())
    if damage == "truncate":
        content = content[:-10]
    else:
        content[-10] ^= 1
    path_of(tiny).write_bytes(content)
    again, log = get()
    assert said in log
    assert all(torch.equal(made[name], again[name]) for name in made)


def test_sampling_continues_where_it_stopped(get, tiny, monkeypatch):
    whole, _ = get()
    path_of(tiny).unlink()
    monkeypatch.setattr(uncertainty.cache, "SAVE_EVERY_S", 0.0)
    sampled = []

    def cut(sample, *arguments):
        for group, *rest in sample(*arguments):
            if group == 3 and not sampled.count(3):
                sampled.append(3)
                raise KeyboardInterrupt
            sampled.append(group)
            yield group, *rest

    with pytest.raises(KeyboardInterrupt):
        get(wrap=cut)
    continued, log = get(wrap=cut)
    assert sampled == [0, 1, 2, 3, 3, 4] and "3 groups" in log
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
    assert not list(path_of(tiny).parent.glob("*.partial*"))


def stop_at_group_3(sample, *arguments):
    """Stands for Ctrl-C there."""
    for group, *rest in sample(*arguments):
        if group == 3:
            raise KeyboardInterrupt
        yield group, *rest


def test_a_partial_file_with_samples_goes_on_with_them_when_they_are_not_asked_for(get, tiny, monkeypatch):
    whole, _ = get()
    path_of(tiny).unlink()
    monkeypatch.setattr(uncertainty.cache, "SAVE_EVERY_S", 0.0)

    with pytest.raises(KeyboardInterrupt):
        get(wrap=stop_at_group_3)
    get(keep=False)
    kept, log = get()  # with samples: they are there already
    assert "there already" in log and "making it again" not in log
    assert torch.equal(kept["log_probs"], whole["log_probs"])


def test_samples_stay_until_those_that_are_made_anew_are_whole(get, tiny, monkeypatch):
    get()
    before = path_of(tiny).read_bytes()
    monkeypatch.setattr(uncertainty.cache, "SAVE_EVERY_S", 0.0)

    with pytest.raises(KeyboardInterrupt):
        get(wrap=stop_at_group_3, overwrite=True)
    written = path_of(tiny).stat().st_mtime_ns
    assert path_of(tiny).read_bytes() == before
    assert "3 groups there already" in get(overwrite=True)[1] and path_of(tiny).stat().st_mtime_ns > written
    assert "5 groups there already" in get(overwrite=True)[1]  # as the stage has not ended yet


def test_half_precision_keeps_the_samples_small_and_the_statistics_exact(get):
    full, _ = get()
    half, _ = get(settings=McDropout(passes=6, group_size=4, dtype="float16"))
    assert half["log_probs"].dtype == torch.float16
    torch.testing.assert_close(half["mean"], full["mean"])


def test_statistics_do_not_grow_with_the_passes(get, tiny):
    few, _ = get(keep=False)
    many, _ = get(settings=McDropout(passes=60, group_size=4), keep=False)
    assert {name: value.shape for name, value in few.items()} == {name: value.shape for name, value in many.items()}
    for passes in (6, 60):  # side by side
        path = path_of(tiny).with_name(f"toy-train-plain-0x{passes}.safetensors")
        assert artifact.load(path, KIND)[1]["request"]["plan"]["passes"] == passes


@pytest.mark.parametrize("samples", [False, True])
def test_a_file_takes_what_speed_readme_says(get, tiny, samples):
    images, passes, classes = 300, 4, 7
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(1, classes))
    dataset = Dataset(
        "random", torch.zeros(images, 1, 1, 1), torch.zeros(images, dtype=torch.long), [""] * images, [""] * classes
    )
    get(McDropout(passes, dtype="float16"), samples, dataset=dataset, network=network)
    found = sum(path.stat().st_size for path in (tiny.folder / "mc_samples").iterdir())
    tensors = images * (
        16 + 8 * classes + 2 * passes * classes * samples
    )  # group and two measures; two of each class; float16
    assert tensors < found < tensors + 2000
