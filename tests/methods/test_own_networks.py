"""Networks, and images, from outside."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT, random_images, run_stages, save_images
from PIL import Image
from safetensors.torch import save_file
from test_docs import code_of
from torch import nn

from configs.cli import parse
from configs.errors import UserError
from configs.schema import Config, Data, DataSet, StudentSettings, TeacherSettings
from data import dataset_of, load
from docs.examples.my_models import make_mobilenet
from methods.student import load_student
from methods.teacher import Teacher, load_teacher
from models.external import External, first_of, plain
from train_student import distil
from training.compute import choose
from training.external import call
from uncertainty.any_network import PlainLoop, sampler_of

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
CLASSES = [str(c) for c in range(10)]
IMAGES = torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def own(tiny, tmp_path, monkeypatch) -> Config:
    """The digits by a network of the user's own file."""
    (tmp_path / "my_models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    tiny.name, tiny.runs = "own", "runs"
    tiny.teacher = TeacherSettings(
        network="my_models.py:make", options={"width": 4, "p": 0.2}, epochs=1, batch_size=64, lr=0.05
    )
    tiny.student = StudentSettings(epochs=1, batch_size=64)
    tiny.data.ood = tiny.data.ood[:1]
    return tiny


def network_of(**options) -> nn.Module:
    """The user's network, made by the user."""
    names = {}
    exec(CODE, names)
    torch.manual_seed(0)
    return names["make"](**options).eval()


def trained_by(config: Config) -> Teacher:
    run_stages(config, "teacher")
    return load_teacher(config, choose("cpu", "float32"))


def test_a_network_of_the_users_file_from_training_to_prediction(own, no_plots, capsys):
    trained = trained_by(own)
    run_stages(own, "student", "evaluate")
    assert re.search("sampled by +the plain loop", (own.folder / "log.txt").read_text())
    assert (own.folder / "my_models.py").read_text() == CODE
    assert trained.check(trained.network.some_images()).random == {"Net: bernoulli": ["the network"]}
    assert load_student(own.folder)(IMAGES).mean.shape == (5, 10)
    Path("my_models.py").write_text(CODE + "\n# changed")
    load_student(own.folder)
    assert "my_models.py has changed" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pt"])
def test_weights_that_were_trained_outside(own, file):
    network = network_of(width=4, p=0.2)
    if file.endswith(".pt"):
        torch.save({"state_dict": network.state_dict()}, file)
    else:
        save_file(network.state_dict(), file)
    own.teacher.weights, own.teacher.mean, own.teacher.std = file, [0.25], [0.5]
    trained = trained_by(own)
    floats = (IMAGES.view(5, 1, 8, 8) / 255 - 0.25) / 0.5
    torch.testing.assert_close(trained.network(IMAGES), network(floats), atol=1e-5, rtol=1e-5)
    run_stages(own, "teacher")
    assert "skipped" in (own.folder / "log.txt").read_text()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"network": "gone.py:make"}, "no file gone.py"),
        ({"network": "my_models.py:absent"}, "has no callable absent"),
        ({"options": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"width": 0.5}, "teacher.width: would be ignored"),
        ({"weights": "w.pt"}, "set teacher.mean and teacher.std"),
        ({"network": "vgg5", "options": None, "conv_dropout": [0.1]}, "conv_dropout: 1 rates for the 3 places of vgg5"),
        ({"mean": [0.0, 0.0], "std": [1.0, 1.0]}, "2 and 2 numbers for 1 channels"),
        (nn.Linear(2, 2), "w.pt.* cannot be read"),  # code is never run from a file of weights
        ({"more": torch.zeros(1)}, "Unexpected key"),
        ({"last.bias": torch.zeros(11)}, "size mismatch for last.bias"),
        ({"last.bias": torch.full((10,), torch.nan)}, "are not finite"),
    ],
)
def test_what_does_not_fit_is_one_line(own, change, said):
    if isinstance(change, nn.Module) or torch.is_tensor(next(iter(change.values()))):
        torch.save(change if isinstance(change, nn.Module) else network_of(width=4).state_dict() | change, "w.pt")
        change = {"weights": "w.pt", "mean": [0.0], "std": [1.0]}
    for name, value in change.items():
        setattr(own.teacher, name, value)
    with pytest.raises(UserError, match=said):
        run_stages(own, "teacher")


def test_torchvisions_network_with_dropout_in_its_head_needs_no_student(own):
    own.teacher.network, own.teacher.options = "torchvision:mobilenet_v3_small", None
    own.data.channels, own.data.size, own.sampling.views = 3, 32, ["plain"]
    own.data.validation = 1200  # of 1,297 images
    run_stages(own, "teacher", "student")
    assert "this teacher needs no student" in (own.folder / "log.txt").read_text()


def test_a_network_of_pretrained_weights_is_trained_on_and_distilled(tmp_path, monkeypatch):
    """docs/examples/finetune.yaml, with weights of a file in place of torchvision's, and few small photos."""
    torch.manual_seed(1)
    pretrained = torchvision.models.resnet18()
    torch.save(pretrained.state_dict(), tmp_path / "resnet18.pth")
    for kind in ("robin", "wren"):
        save_images(tmp_path / f"datasets/birds/train/{kind}", *random_images(20, 32, 32, 3))
    monkeypatch.chdir(tmp_path)
    Path("docs").symlink_to(ROOT / "docs")
    changes = (
        "--teacher.epochs 1 --student.epochs 1 --data.size 32 --sampling.passes 2 --compared_on validation".split()
    )
    changes += ["--teacher.options", "{classes: 2, weights: resnet18.pth}"]
    config, _ = parse(["--config", "docs/examples/finetune.yaml", *changes])
    trained = trained_by(config)
    start, end = pretrained.conv1.weight, trained.network.module.conv1.weight
    assert 0 < (end - start).abs().max() < 0.02  # random weights are some 0.1 apart
    assert sum(map(len, trained.check(trained.network.some_images()).random.values())) == 8
    run_stages(config, "student")
    assert load_student(config.folder).classes == ["robin", "wren"]


def test_what_a_module_holds_besides_weights_is_found_wherever_it_is():
    held = SimpleNamespace(rates={"first": 0.1, 2: (0.2, 0.3)}, arrays=[np.zeros(3), 4], layers=[nn.Dropout(0.5)])
    held.itself, held.tensor = held, torch.zeros(2)
    assert plain(held) == {"rates": {"first": 0.1, 2: (0.2, 0.3)}, "arrays": [4]}
    assert plain([nn.ReLU()]) is None and plain((3, 3)) == (3, 3)


def test_of_several_outputs_the_logits_are_taken():
    logits = torch.zeros(2, 3)
    for output in ({"features": 1, "logits": logits}, SimpleNamespace(logits=logits), (logits, 1), logits):
        assert first_of(output) is logits


def test_a_module_and_images_in_python(own):
    """From a module whose dropout is functional, and any torch Dataset, to a student that is read again."""
    network = network_of(width=4, p=0.3).requires_grad_(False)
    teacher = Teacher.from_module(network, [0.3], [0.3], 8, CLASSES, channels=1)
    other = Teacher.from_module(network_of(width=4, p=0.1), [0.3], [0.3], 8, CLASSES, channels=1)
    assert teacher.checksum != other.checksum  # the weights are equal, what is dropped is not
    items = torch.utils.data.TensorDataset(torch.rand(64, 1, 12, 12), torch.arange(64) % 10)
    student = distil(teacher, items, views=["plain", "augmented"], config=own)
    assert own.sampling.views == ["augmented", "mixup"]  # the caller's config is left as it was
    assert not torch.equal(student.network.module.first.weight, network.first.weight)  # a student is not frozen
    again = load_student(own.folder, module=network)
    torch.testing.assert_close(again(IMAGES).mean, student(IMAGES).mean, atol=2e-3, rtol=0)
    with pytest.raises(UserError, match="was given as a module"):
        load_student(own.folder)
    with pytest.raises(UserError, match="another network than this student's: size mismatch"):
        load_student(own.folder, module=network_of(width=6))
    rows = list(student.predict(save_images(Path("photos"), *random_images(40, 9, 9))))
    assert len(rows) == 40 and rows[0]["image"] == "photos/0.png" and rows[0]["class"] in CLASSES
    own.name, own.data.decoded = "unlabelled", None  # a folder without classes is enough; nothing is kept of it
    assert distil(teacher, "photos", views=["plain"], config=own).classes == CLASSES
    with pytest.raises(UserError, match="40 training images have no label"):
        distil(teacher, "photos", config=own, method="labels", overwrite=True)
    own.name = "another network"
    assert distil(teacher, "photos", config=own, network="vgg5", width=0.125).architecture.network == "vgg5"
    with pytest.raises(UserError, match="has no random weights"):
        distil(teacher, "photos", config=own, init="random", overwrite=True)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"classes": np.array(["a", *CLASSES[:8], "a"])}, "two classes are called 'a'"),
        ({"mean": [76.5]}, "divide those for 0-255 by 255"),
        ({"std": [0.0]}, "divide those for 0-255 by 255"),
        ({"weight": torch.nan}, "logits are not finite"),
        ({"traced": True}, "give the one that it was made of"),
    ],
)
def test_a_module_that_can_be_no_teacher(change, said):
    network = network_of()
    network.last.weight.data *= change.pop("weight", 1.0)
    if change.pop("traced", False):
        network = torch.jit.trace(network, torch.zeros(2, 1, 8, 8))
    given = {"mean": [0.3], "std": [0.3], "classes": range(10)} | change
    with pytest.raises(UserError, match=said):
        Teacher.from_module(network, size=8, channels=1, **given)


def test_the_python_of_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in code_of("docs/own_networks.md") if "distil(" in code]
    network = make_mobilenet()
    for _ in range(20):  # for batch norm's statistics: with the initial ones all images give the same logits
        network(torch.randn(16, 3, 32, 32))
    save_file(network.state_dict(), "mobilenet.safetensors")
    for i, image in enumerate(random_images(8, 9, 9)):
        for split in ("train", "test"):
            save_images(Path(f"datasets/digit_images/{split}/{i}"), image)
    names = {}
    exec(code, names)
    assert len(names["student"].about["history"]) == 8 and names["row"]["image"].endswith("7/0.png")
    with pytest.raises(UserError, match="distil: unknown key student.epoch, did you mean student.epochs?"):
        distil(names["teacher"], "datasets/digit_images/train", epoch=3)


def test_vectors_by_the_example(tmp_path, no_plots, monkeypatch):
    """A perceptron on 30 measurements of a tumour; logistic regression reaches .97 on this split."""
    monkeypatch.chdir(tmp_path)
    Path("docs").symlink_to(ROOT / "docs")
    config, _ = parse(["--config", "docs/examples/vectors.yaml"])
    run_stages(config)
    found = json.loads(Path("runs/vectors/metrics.json").read_text())
    assert found["teacher"]["accuracy"] > 0.93 and found["student"]["accuracy"] > 0.93
    assert found["agreement"]["breast_cancer"]["total_variance"]["pearson"] > 0.6


def test_images_that_are_not_square(own, no_plots):
    own.teacher, own.data.size = TeacherSettings(network="vgg5", width=0.125, epochs=1, batch_size=64), [8, 13]
    own.sampling.views = ["strong", "cutmix"]
    run_stages(own)
    assert load_student(own.folder)(torch.zeros(2, 8, 13, 1, dtype=torch.uint8)).mean.shape == (2, 10)


def test_a_named_network_is_checked_before_it_is_trained(own):
    Path("my_models.py").write_text(CODE.replace("self.p, self.training", "self.p"))
    with pytest.raises(UserError, match="random without dropout too"):
        run_stages(own, "teacher")


GREY = np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    "item, said",
    [
        ((GREY + 3.0, 0), "floats from 3 to 3: scale them"),
        ((GREY.astype(np.int32), 0), "but images are uint8"),
        ((GREY, [0, 1]), "one class per image is supported"),
        ((GREY, 0.5), "one class per image is supported"),
        ((GREY, {"boxes": 1}), "one class per image is supported"),
        ((GREY, [[1], [2, 3]]), "one class per image is supported"),
        ((GREY, -5), "a whole number from 0 upwards"),
        ((GREY, 1, 2), "3 parts"),
        ((GREY, 12), "label 12 is too large for 10 classes"),
        (("text", 0), "no image"),
    ],
)
def test_items_that_are_no_image_with_one_class(tmp_path, item, said):
    with pytest.raises(UserError, match=said):
        dataset_of([item], Data(size=8, channels=1, decoded=str(tmp_path)), CLASSES)


@pytest.mark.parametrize("kept", [True, False])
def test_items_are_what_they_were(tmp_path, kept):
    """uint8 [H, W, C] and float [C, H, W], in memory and as they come."""
    grey = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    settings = Data(size=8, channels=1, decoded=str(tmp_path) if kept else None)
    for images in (grey, grey.transpose(0, 3, 1, 2) / np.float32(255)):
        found = dataset_of([(image, 1) for image in images], settings, ["a", "b"])
        assert torch.equal(found.images, torch.from_numpy(grey)) and found.labels.tolist() == [1] * 6
        assert found.fingerprint != dataset_of([(x[::-1], 1) for x in grey], settings, ["a", "b"]).fingerprint
        assert torch.equal(found.subset(torch.tensor([4, 1])).batch(torch.tensor([1])), found.images[1:2])


def test_classes_that_are_no_texts_are_made_texts(tmp_path):
    code = "import numpy as np\nclass Items(list):\n    classes = [('tench', 'Tinca'), 7]\n"
    code += "make = lambda split: Items([(np.zeros((8, 8), np.uint8), 1)])"
    (tmp_path / "items.py").write_text(code)
    found = load(DataSet(f"{tmp_path}/items.py:make"), "test", Data(size=8, channels=1, decoded=None))
    assert found.classes == ["('tench', 'Tinca')", "7"]


def test_of_a_folder_in_python_all_images_are_taken_without_labels(tmp_path):
    for split in ("train", "test"):
        save_images(tmp_path / split / "wren", *random_images(3, 9, 9))
    found = dataset_of(tmp_path, Data(size=8, channels=1, decoded=None), CLASSES)
    assert found.labels.tolist() == [-1] * 6 and found.classes == CLASSES


def test_a_picture_of_a_palette_is_what_it_shows(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).quantize(16)
    found = dataset_of([picture], Data(size=8, channels=3, decoded=None), ["a"])
    assert np.array_equal(found.images[0], picture.convert("RGB"))


def test_a_package_of_the_user_that_is_called_as_ours_is_not_ours(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").touch()
    (tmp_path / "models/blocks.py").write_text(CODE)
    code = "from models.blocks import Net\nfrom torch import nn\n"
    code += "make = lambda: nn.Sequential(Net(), nn.Dropout(0.1), nn.Linear(10, 10))"
    (tmp_path / "net.py").write_text(code)
    assert isinstance(sampler_of(call(f"{tmp_path}/net.py:make", {})), PlainLoop)


def test_features_are_those_of_hooks_and_the_classifier_is_found():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, 2))
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.unused, self.last = nn.Linear(3, 3), nn.Linear(6, 5)

        def hidden(self, x):
            tokens = self.body(x).flatten(2).mT
            return tokens, self.attention(tokens, tokens, tokens)[0].mean(1)

        def forward(self, x):
            return self.last(self.hidden(x)[1])

    module, floats = Branches().eval(), IMAGES.permute(0, 3, 1, 2) / 255
    network = External(module, (8, 8, 1), 5)
    network.normalize.set([0.0], [1.0])
    means, hidden = network.features(IMAGES)
    tokens, seen = module.hidden(floats)
    torch.testing.assert_close(means, [module.body[:2](floats).mean((2, 3)), tokens.mean(1), seen])
    torch.testing.assert_close(hidden, seen)
    torch.testing.assert_close(network.classifier(hidden), network(IMAGES))
    for said, *arguments in (
        ("gone is not called", (8, 8, 1), 5, ["gone"]), ("not logits", (8, 8, 1), 7), ("cannot take", (8, 8, 3), 5),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            External(module, *arguments)
