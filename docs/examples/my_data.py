"""Vectors in place of images: see docs/own_networks.md."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import MinMaxScaler
from torch.utils.data import TensorDataset


def breast_cancer(split: str) -> TensorDataset:
    """569 tumours with 30 measurements each, two of three for training: floats [30, 1, 1] in [0, 1], and labels."""
    table = load_breast_cancer()
    train = np.arange(len(table.data)) % 3 > 0
    rows = train if split == "train" else ~train
    values = MinMaxScaler(clip=True).fit(table.data[train]).transform(table.data[rows])
    items = TensorDataset(torch.from_numpy(values).float()[:, :, None, None], torch.from_numpy(table.target[rows]))
    items.classes = table.target_names.tolist()
    return items
