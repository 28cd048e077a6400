"""Networks, and images, from outside."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import evaluate
import predict
import train_student
import train_teacher
from configs.schema import Config, Data
from configs.schema import Student as StudentSettings
from configs.schema import Teacher as TeacherSettings
from data import dataset_of
from data.folder import decode
from data.resize import fit_to
from methods.student import load_student
from methods.teacher import Teacher, load_teacher
from models.architecture import Architecture
from models.networks import build
from models.own import Own, load_weights
from train_student import distil
from training.cli import parse
from training.compute import choose
from training.errors import UserError

ROOT = Path(__file__).parents[2]
CODE = """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8, p=0.3):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.first, self.last, self.p = nn.Linear(width * 64, 16), nn.Linear(16, 10), p

    def forward(self, x):
        x = F.dropout(self.norm(self.convolution(x)).relu(), self.p, self.training)
        return self.last(self.first(x.view(len(x), -1)).relu())

def make(**options):
    return Net(**options)
"""


@pytest.fixture
def own(tiny, tmp_path, monkeypatch) -> Config:
    """The digits by a network of the user's own file."""
    (tmp_path / "my_models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    tiny.name, tiny.runs = "own", "runs"
    tiny.teacher = TeacherSettings(
        network="my_models.py:make", options={"width": 4, "p": 0.2}, epochs=3, batch_size=64, lr=0.05
    )
    tiny.student = StudentSettings(epochs=2, batch_size=64)
    tiny.data.ood, tiny.data.max_ood = tiny.data.ood[:1], 40
    return tiny


def network_of(path: Path, **options) -> nn.Module:
    names = {}
    exec(path.read_text(), names)
    torch.manual_seed(0)
    return names["make"](**options)


def test_a_network_of_the_users_file_from_training_to_prediction(own, tmp_path, capsys):
    for script in (train_teacher, train_student, evaluate):
        script.main(own, overwrite=False)
    log = (own.folder / "log.txt").read_text()
    assert "sampled by the plain loop" in log and "needs no student" not in log
    assert (own.folder / "my_models.py").read_text() == CODE
    trained = load_teacher(own, choose("cpu", "float32"))
    student = load_student(own.folder)
    assert trained.dropouts() == ["the network: Net: bernoulli"]
    images = torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8)
    assert student(images).mean.shape == (5, 10) and student.network.last == "last"
    Path("my_models.py").write_text(CODE + "\n# changed")
    load_student(own.folder)
    assert "my_models.py has changed" in capsys.readouterr().out


def test_weights_that_were_trained_outside(own, tmp_path):
    network = network_of(Path("my_models.py"), width=4, p=0.2).eval()
    save_file(network.state_dict(), "weights.safetensors")
    torch.save({"state_dict": network.state_dict()}, "weights.pt")
    for file in ("weights.safetensors", "weights.pt"):
        own.name = file
        own.teacher.weights, own.teacher.mean, own.teacher.std = file, [0.25], [0.5]
        train_teacher.main(own, overwrite=False)
        trained = load_teacher(own, choose("cpu", "float32"))
        assert trained.data == "unknown" and trained.history == []
        images = torch.randint(0, 256, (7, 8, 8, 1), dtype=torch.uint8)
        floats = (images.view(7, 1, 8, 8) / 255 - 0.25) / 0.5
        torch.testing.assert_close(trained.network(images), network(floats), atol=1e-5, rtol=1e-5)
        train_teacher.main(own, overwrite=False)  # skipped
        assert "skipped" in (own.folder / "log.txt").read_text()
    train_student.main(own, overwrite=False)
    evaluate.main(own, overwrite=False)
    assert (own.folder / "plots/training_curves.png").exists() and (own.folder / "table.md").exists()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"network": "gone.py:make"}, "no file gone.py"),
        ({"network": "my_models.py:absent"}, "has no callable absent"),
        ({"options": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"network": "torchvision:absent"}, "torchvision has no absent"),
        ({"width": 0.5}, "teacher.width: would be ignored"),
        ({"weights": "w.pt"}, "set teacher.mean and teacher.std"),
        ({"weights": "w.pt", "mean": [0.0], "std": [1.0]}, "w.pt: cannot be read"),
        ({"mean": [0.0, 0.0], "std": [1.0, 1.0]}, "2 and 2 numbers for 1 channels"),
        ({"mean": [0.0]}, "give both or none"),
    ],
)
def test_what_does_not_fit_is_one_line(own, change, said):
    for name, value in change.items():
        setattr(own.teacher, name, value)
    with pytest.raises(UserError, match=said):
        train_teacher.main(own, overwrite=False)


@pytest.mark.parametrize(
    "state, said",
    [
        ({"last.weight": torch.zeros(10, 16)}, "are missing"),
        ({"more": torch.zeros(1)}, "are not the network's"),
        ({"last.bias": torch.zeros(11)}, "have another shape"),
        ({"last.bias": torch.full((10,), torch.nan)}, "are not finite"),
    ],
)
def test_weights_that_do_not_fit_name_what_is_wrong(own, state, said):
    network = network_of(Path("my_models.py"))
    whole = network.state_dict() | state if said != "are missing" else state
    torch.save(whole, "w.pt")
    with pytest.raises(UserError, match=said):
        load_weights(network, Path("w.pt"))
    torch.save(nn.Linear(2, 2), "whole.pt")
    with pytest.raises(UserError, match="cannot be read"):  # code is never run from a file of weights
        load_weights(network, Path("whole.pt"))


def test_torchvisions_network_with_dropout_in_its_head_needs_no_student(own, tmp_path, monkeypatch, capsys):
    own.teacher.network, own.teacher.options, own.teacher.epochs = "torchvision:mobilenet_v3_small", None, 1
    own.data.channels, own.data.size, own.sampling.views, own.student.epochs = 3, 32, ["plain"], 1
    train_teacher.main(own, overwrite=False)
    train_student.main(own, overwrite=False)
    log = (own.folder / "log.txt").read_text()
    assert (
        "1 modules are random, sampled by the plain loop over classifier alone" in log
        and "this teacher needs no student" in log
    )
    Path("photos").mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 40, 3), 80 * i, np.uint8)).save(f"photos/{i}.png")
    monkeypatch.setattr(sys, "argv", "predict.py --run runs/own --images photos --teacher-passes 8 --out t.csv".split())
    predict.main()
    rows = list(csv.DictReader(open("t.csv")))
    assert (
        len(rows) == 3
        and all(float(row["total_variance"]) >= 0 for row in rows)
        and any(float(row["mutual_information"]) for row in rows)
    )


def test_a_module_and_images_in_python(own, tmp_path, monkeypatch):
    """From a module whose dropout is functional, and any torch Dataset, to a student that is read again."""
    network = network_of(Path("my_models.py"), width=4, p=0.3)
    classes = [str(c) for c in range(10)]
    teacher = Teacher.from_module(network, [0.3], [0.3], 8, classes, channels=1)
    other = Teacher.from_module(network_of(Path("my_models.py"), width=4, p=0.1), [0.3], [0.3], 8, classes, channels=1)
    assert teacher.checksum != other.checksum  # the weights are equal, what is dropped is not
    floats = torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    items = torch.utils.data.TensorDataset(floats, torch.arange(64) % 10)
    own.sampling.passes, own.name = 4, "distilled"
    student = distil(teacher, items, views=["plain", "augmented"], config=own)
    assert own.sampling.views == ["augmented", "mixup"]  # the caller's config is left as it was
    images = torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8)
    again = load_student(own.folder, module=network)
    torch.testing.assert_close(again(images).mean, student(images).mean, atol=2e-3, rtol=0)
    with pytest.raises(UserError, match="was given as a module"):
        load_student(own.folder)
    Path("photos").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save("photos/a.png")
    (row,) = student.predict("photos")
    assert row["image"] == "photos/a.png" and row["class"] in classes


@pytest.mark.parametrize(
    "item, said",
    [
        ((np.zeros((8, 8)) + 3.0, 0), "floats from 3 to 3: scale them"),
        ((np.zeros((8, 8), np.int32), 0), "but images are uint8"),
        ((np.zeros((8, 8), np.uint8), [0, 1]), "one class per image is supported"),
        ((np.zeros((8, 8), np.uint8), np.zeros((8, 8))), "one class per image is supported"),
        ((np.zeros((8, 8), np.uint8), 0.5), "one class per image is supported"),
        ((np.zeros((8, 8), np.uint8), 1, 2), "3 parts"),
        ((np.zeros((8, 8), np.uint8), 12), "label 12 is too large for 10 classes"),
        (("text", 0), "no image"),
    ],
)
def test_items_that_are_no_image_with_one_class(tmp_path, item, said):
    with pytest.raises(UserError, match=said):
        dataset_of([item], Data(size=8, channels=1, decoded=str(tmp_path)), [str(c) for c in range(10)])


def test_items_are_what_they_were(tmp_path):
    """uint8 [H, W, C] and float [C, H, W], in memory and as they come; the larger is made smaller."""
    grey = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    for items in ([(image, 1) for image in grey], [(image.transpose(2, 0, 1) / np.float32(255), 1) for image in grey]):
        kept, coming = (
            dataset_of(items, Data(size=8, channels=1, decoded=where), ["a", "b"]) for where in (str(tmp_path), None)
        )
        assert torch.equal(kept.images, torch.from_numpy(grey)) and torch.equal(coming.images, kept.images)
        assert coming.workers and not kept.workers and kept.labels.tolist() == [1] * 6
        assert torch.equal(coming.subset(torch.tensor([4, 1])).batch(torch.tensor([1])), kept.images[1:2])


def test_a_source_of_the_users_file(tmp_path, monkeypatch):
    (tmp_path / "my_data.py").write_text(
        "import numpy as np\n"
        "class Items:\n"
        "    classes = ['low', 'high']\n"
        "    def __init__(self, split): self.count = 60 if split == 'train' else 20\n"
        "    def __len__(self): return self.count\n"
        "    def __getitem__(self, i): return np.full((8, 8), 40 + 150 * (i % 2), np.uint8), i % 2\n"
        "def spectrograms(split): return Items(split)\n"
    )
    monkeypatch.chdir(tmp_path)
    source = [
        "--data.train",
        '{"source": "my_data.py:spectrograms"}',
        "--data.validation",
        "10",
        "--teacher.epochs",
        "3",
    ]
    config, _ = parse(["--config", str(ROOT / "configs/digits.yaml"), *source])
    train_teacher.main(config, overwrite=False)
    trained = load_teacher(config, choose("cpu", "float32"))
    assert trained.classes == ["low", "high"] and trained.history[-1]["accuracy"] > 0.9


def test_features_are_those_of_hooks_and_the_classifier_is_found():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, 2))
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.unused, self.last = nn.Linear(3, 3), nn.Linear(6, 5)

        def forward(self, x):
            tokens = self.body(x).flatten(2).mT
            return self.last(self.attention(tokens, tokens, tokens)[0].mean(1))

    torch.manual_seed(0)
    module = Branches().eval()
    network = Own(module, 8, 1, 5)
    network.normalize.set([0.0], [1.0])
    images = torch.randint(0, 256, (3, 8, 8, 1), dtype=torch.uint8)
    means, hidden = network.features(images)
    floats = images.permute(0, 3, 1, 2) / 255
    first = module.body[:2](floats)
    last = module.body(floats)
    tokens = last.flatten(2).mT
    seen = module.attention(tokens, tokens, tokens)[0]
    assert network.layers == ["body.1", "body", "attention"] and network.last == "last"
    for found, expected in zip(means, (first.mean((2, 3)), last.mean((2, 3)), seen.mean(1))):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(hidden, seen.mean(1))
    torch.testing.assert_close(network.classifier(hidden), network(images))
    with pytest.raises(UserError, match="student.layers: gone is not called"):
        Own(module, 8, 1, 5, ["gone"])
    with pytest.raises(UserError, match="not logits"):
        Own(module, 8, 1, 7)
    with pytest.raises(UserError, match="cannot take images"):
        Own(module, 8, 3, 5)


@pytest.mark.parametrize(
    "network, dropped, places",
    [("vgg5", "channels", 3), ("vgg5", "filters", 3), ("resnet18", "channels", 8), ("resnet18", "filters", 8)],
)
def test_whole_channels_and_filters(network, dropped, places):
    """Zeros are whole maps; of filters, before batch norm, which makes the same number of every zero."""
    layers = build(Architecture(network, 0.125, 8, 1, 4, 0.5, 0.0, dropped=dropped)).eval()
    found = [module for module in layers.modules() if isinstance(module, nn.Dropout2d)]
    assert len(found) == places
    seen = []
    found[0].train().register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    layers(torch.randint(0, 256, (16, 8, 8, 1), dtype=torch.uint8))
    (before, after) = seen[0]
    kept = (after != 0).flatten(2).float().mean(2)
    alive = (before != 0).flatten(2).float().mean(2) > 0
    assert set(((kept == 0) | torch.isclose(kept, (before != 0).flatten(2).float().mean(2))).flatten().tolist()) == {
        True
    }
    assert 0.3 < (kept[alive] == 0).float().mean() < 0.7
    assert (before.min() < 0) == (dropped == "filters")
    torch.testing.assert_close(after[kept > 0], 2 * before[kept > 0])


def test_a_large_image_gets_a_stem_with_strides():
    """At 224 pixels it costs what torchvision's does."""
    small, large = (build(Architecture("resnet18", 0.125, size, 3, 10)) for size in (64, 224))
    assert small.conv.kernel_size == (3, 3) and large.conv.kernel_size == (7, 7) and large.conv.stride == (2, 2)
    ours, theirs = build(Architecture("resnet18", 1.0, 224, 3, 1000)).eval(), torchvision.models.resnet18().eval()
    costs = []
    for network, image in ((ours, torch.zeros(1, 224, 224, 3)), (theirs, torch.zeros(1, 3, 224, 224))):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
        costs.append(counter.get_total_flops())
    assert costs[0] == costs[1]


def test_resize_of_what_is_no_square(tmp_path):
    """Twice as wide as high, white in the middle; of files by PIL, and of tensors."""
    pixels = np.zeros((12, 24, 3), np.uint8)
    pixels[:, 6:18] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cropped, padded, squashed = (decode(tmp_path / "a.png", 12, 3, how) for how in ("crop", "pad", "squash"))
    assert (cropped == 200).all()
    assert (
        (padded[:3] == 0).all()
        and (padded[9:] == 0).all()
        and (padded[3:9, 4:8] == 200).all()
        and (padded[3:9, :2] == 0).all()
    )
    assert (squashed[:, 4:8] == 200).all() and (squashed[:, :2] == 0).all()
    for how, expected in (("crop", cropped), ("squash", squashed)):
        assert np.abs(fit_to(torch.from_numpy(pixels)[None], 12, 3, how)[0].numpy().astype(int) - expected).max() <= 1
    inside = fit_to(torch.from_numpy(pixels)[None], 12, 3, "pad")[0].numpy()
    assert (inside[:2] == 0).all() and (inside[10:] == 0).all() and (inside[4:8, 4:8] == 200).all()
