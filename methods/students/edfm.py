"""EDFM (Park et al. 2025): a small network moves noise to the teacher's logits, by flow matching.

Their code (github.com/Park-Jong-Geon/EDFM) differs: the small network has four residual blocks and is trained alone, on
the features of a fixed, trained network, for 1,000 epochs with mixup; noise has the standard deviation 4, and the
velocity a skip connection; t is drawn more often near one end; 32 draws come by Heun's method in seven uneven steps.
"""

import torch
from torch import Tensor, nn

from configs.schema import Count, Several, dataclass
from methods.interface import Targets
from methods.students.diagonal_gaussian import centred
from methods.students.hydra import HeadsAsSamples
from methods.students.hydra_plus import aggregation
from uncertainty.samples import Samples


class Flow(nn.Linear):
    """A linear layer, and the velocity v(z, t, h) of logits z at the time t, given the hidden layer h and the linear
    layer's logits.

    [N, F] → draws [N, M, G], the ends of paths that begin at M points of noise. In training, which needs no draws, the
    linear layer's logits [N, 1, G]; the hidden layer is kept for `matching`.
    """

    def __init__(self, linear: nn.Linear, units: int, steps: int, draws: int):
        inputs, outputs = linear.in_features, linear.out_features
        super().__init__(inputs, outputs)
        self.steps = steps
        self.hidden = torch.empty(0)
        self.register_buffer("noise", torch.randn(draws, outputs))
        self.condition = nn.Linear(inputs + outputs, units)
        self.place = nn.Linear(outputs + 1, units)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, outputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.hidden = x
            return super().forward(x).unsqueeze(1)
        z, condition = self.noise.expand(len(x), -1, -1), self.conditions(x)
        for step in range(self.steps):
            z = z + self.velocity(z, torch.full_like(z[..., :1], step / self.steps), condition) / self.steps
        return z

    def conditions(self, x: Tensor) -> Tensor:
        """What the velocity depends on besides place and time, [N, 1, H]: it is computed once for all draws and
        steps."""
        return self.condition(torch.cat([x, centred(super().forward(x))], 1)).unsqueeze(1)

    def velocity(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """v [N, M, G] at z [N, M, G] and t [N, M, 1]."""
        return self.rest(condition + self.place(torch.cat([z, t], -1)))

    def matching(self, z_1: Tensor) -> Tensor:
        """E ‖v(z_t, t, h) − (z_1 − z_0)‖² / C at z_t = (1 − t) z_0 + t z_1, z_0 ~ N(0, I), t ~ U(0, 1), for logits z_1
        [N, M, G]."""
        z_0, t = torch.randn_like(z_1), torch.rand_like(z_1[..., :1])
        found = self.velocity((1 - t) * z_0 + t * z_1, t, self.conditions(self.hidden))
        return (found - (z_1 - z_0)).square().mean()


@dataclass
class EDFM(HeadsAsSamples):
    """units: in each of the two hidden layers of the small network. steps: of Euler's method. draws: samples of a
    prediction, from the same noise for every image."""

    units: Count = 256
    steps: Count = 8
    draws: Several = 50

    own_last_layer = True

    def last_layer(self, linear: nn.Linear) -> Flow:
        """A layer with the small network."""
        return Flow(linear, self.units, self.steps, self.draws)

    def loss(self, student: Samples, targets: Targets, network: nn.Module) -> Tensor:
        """Flow matching to the teacher's centred logits. On validation images: KL of the teacher's mean to the
        draws'."""
        teacher, flow = targets.log_probs.float(), network.classifier
        return flow.matching(centred(teacher)) if flow.training else aggregation(student.log_probs, teacher)
