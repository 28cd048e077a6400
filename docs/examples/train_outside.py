"""A MobileNetV3 with dropout in its blocks, trained on a folder of images by PyTorch alone: it knows nothing of this
project.

    python docs/examples/train_outside.py          # see docs/own_networks.md

Writes the images, scikit-learn's digits, to datasets/digit_images/ and the trained weights to mobilenet.safetensors.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from my_models import make_mobilenet
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

FOLDER = Path("datasets/digit_images")


def write_images() -> None:
    """Write the digits as images, two of three for training."""
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target)):
        path = FOLDER / ("test" if i % 3 == 0 else "train") / str(label) / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(path)


def main(epochs: int = 12) -> None:
    """Write the images, train the network, save its weights."""
    write_images()
    prepare = transforms.Compose(
        [transforms.Resize(32), transforms.ToTensor(), transforms.Normalize(3 * [0.3], 3 * [0.38])]
    )
    train, test = (ImageFolder(FOLDER / split, prepare) for split in ("train", "test"))
    torch.manual_seed(0)
    network = make_mobilenet()
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        network.train()
        for images, labels in DataLoader(train, 64, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        right = sum((network(images).argmax(1) == labels).sum().item() for images, labels in DataLoader(test, 256))
    print(f"accuracy {right / len(test):.3f}")
    save_file(network.state_dict(), "mobilenet.safetensors")


if __name__ == "__main__":
    main()
