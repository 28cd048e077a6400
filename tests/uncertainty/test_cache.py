"""The teacher's samples on the disk: used when they match, made again when they do not, continued when cut."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from conftest import TINY, weights_of

import train_student
import uncertainty.cache
from configs.cli import parse
from data import load_train
from training import artifact
from uncertainty.cache import KIND
from uncertainty.mc_dropout import Sampler
from uncertainty.samples import Samples, statistics

FILE = "mc_samples/digits-train-mixup-0x4-stratified.safetensors"


@pytest.fixture
def again(trained):
    """Trains the student anew, by a config that is changed, and returns (samples, log lines of this call)."""

    def again(**sampling):
        trained.sampling, log = replace(trained.sampling, **sampling), trained.folder / "log.txt"
        before = len(log.read_text())
        train_student.main(trained, overwrite=True)
        return samples_of(trained), log.read_text()[before:]

    return again


def samples_of(config, file: str = FILE) -> dict[str, torch.Tensor]:
    """Copies, as the tensors are mapped from the file."""
    return copy.deepcopy(artifact.load(config.folder / file, KIND)[0])


def test_the_samples_that_are_kept_have_the_statistics_beside_them(trained, again):
    """Of stratified passes one sample each is kept, of many branches that the statistics are from."""
    again(stratified=False)
    kept = samples_of(trained, FILE.replace("-stratified", ""))
    assert kept["log_probs"].dtype == torch.float16
    for name, value in statistics(Samples(kept["log_probs"].float())).items():
        torch.testing.assert_close(kept[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("change", [{"group_size": 60}, {"masks": "independent"}])
def test_samples_of_other_settings_are_made_again_with_a_line_that_says_what_differs(trained, again, change):
    ((name, value),) = change.items()
    before = samples_of(trained)
    found, said = again(**change)
    assert f"{name}: {getattr(parse(TINY)[0].sampling, name)} there, {value} asked for" in said
    assert not torch.equal(found["mean"], before["mean"])


def test_images_that_the_teacher_has_not_seen_are_among_the_students_with_their_own_draws(trained, again):
    before, held_out = samples_of(trained), load_train(trained.data, trained.split_seed)[1]
    found, _ = again(held_out=2)
    assert len(found["mean"]) == len(before["mean"]) + 2 * len(held_out)
    first, second = found["mean"][len(before["mean"]) :].split(len(held_out))
    assert (first - second).abs().amax(1).gt(1e-3).float().mean() > 0.3


@pytest.mark.parametrize("damage", ["truncate", "alter"])
def test_a_damaged_file_is_detected_and_made_again(trained, again, damage):
    made, path = samples_of(trained), trained.folder / FILE
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content[:-10] if damage == "truncate" else content)
    found, said = again()
    torch.testing.assert_close(found, made, rtol=0, atol=0)
    assert FILE in said


def test_sampling_continues_where_it_stopped(trained, again, monkeypatch):
    whole, student = samples_of(trained), weights_of(trained, "student")
    for path in (trained.folder / "mc_samples").iterdir():
        path.unlink()
    monkeypatch.setattr(uncertainty.cache, "SAVE_EVERY_S", 0.0)
    sample, sampled = Sampler.__call__, []

    def cut(self, *arguments, **options):
        for group, *rest in sample(self, *arguments, **options):
            sampled.append(group)
            if len(sampled) == 25:  # in the second view
                raise KeyboardInterrupt
            yield group, *rest

    monkeypatch.setattr(Sampler, "__call__", cut)
    with pytest.raises(KeyboardInterrupt):
        again()
    found, said = again()
    assert re.search(r"mixup.*: [1-9] groups there already", said)
    torch.testing.assert_close(found, whole, rtol=0, atol=0)
    torch.testing.assert_close(weights_of(trained, "student"), student, rtol=0, atol=0)
