"""Distil the teacher's MC-dropout distribution into a student that gives it in one pass.

    python train_student.py --config configs/digits.yaml
    python train_student.py --config configs/cifar10.yaml --student.lr 0.01 --overwrite

Reads runs/<name>/teacher.safetensors; writes runs/<name>/mc_samples/ (what the teacher does on views of the training images,
made once) and runs/<name>/student.safetensors. The same command again continues or skips; --overwrite trains the student anew.
"""

import torch

import data
from configs import cli
from configs.run import Run
from configs.schema import Config
from data.views import make_views
from models import student, teacher
from models.inference import logits_of
from models.student import Student
from models.training import decay_groups, fit, shuffled, steps_in
from models.vgg import Architecture
from uncertainty.cache import SampleCache


def main(config: Config, overwrite: bool) -> None:
    """Teacher, samples, student, training."""
    run = Run(config, "student", overwrite)

    # Data and teacher.
    network, trained = teacher.load_teacher(run)
    train, validation = data.load_train(config.data, config.seed, config.teacher.train_on_all)
    settings = student.settings(run) | {"teacher": trained["checksum"], "data": train.fingerprint(), "dtype": run.dtype}
    if run.finished(student.FILE, settings):
        return

    # Samples: what the teacher does on each view of the training images, made once.
    cache = SampleCache(run, network, trained["checksum"])
    train = train.to(run.device)
    views = make_views(config.sampling.views, train.images, config.data.augmentation, config.seed)
    samples = [cache.get(train, "train", view, config.sampling, config.sampling.keep_samples) for view in views]
    targets = torch.stack([view["mean_log_prob"] for view in samples]).to(run.device)
    if validation:
        validation = validation.to(run.device)
        plain = make_views(["plain"], validation.images, config.data.augmentation, config.seed)[0]
        validation_targets = cache.get(validation, "validation", plain, config.sampling, False)["mean_log_prob"].to(run.device)

    # Model.
    torch.manual_seed(config.seed)
    architecture = Architecture(
        config.student.network, config.student.width, config.data.size, config.data.channels, len(train.classes)
    )
    model = Student(architecture, config.student.alpha_floor, train.classes)
    model.network.normalize.fit(train.images)
    if config.student.init == "teacher":
        copied = model.init_from(network)
        run.log(f"starts from the teacher: {copied} of {len(model.network.state_dict())} tensors fit")
    model.to(run.device)

    # Loss and validation. In each epoch an image is seen in one of its views, in the next epoch in its next one.
    offset = torch.randint(len(views), (len(train),))

    def batches(epoch: int):
        for indices in shuffled(len(train), config.student.batch_size):
            number = (offset[indices] + epoch) % len(views)
            order = [indices[number == v] for v in range(len(views))]
            images = torch.cat([view.images(part).float() for view, part in zip(views, order)])
            yield images, torch.cat([targets[v, part] for v, part in enumerate(order)])

    def losses(model: Student, batch):
        images, mean_log_prob = batch
        return {"loss": model(images).nll(mean_log_prob).mean()}

    def validate(model: Student):
        distribution = model.distribution(logits_of(model.network, validation.images, run))
        loss = distribution.nll(validation_targets).mean().item()
        return {"loss": loss, "score": -loss}

    # Loop and save.
    steps = steps_in(len(train), config.student.batch_size)
    body, last = model.network[:-1], model.network[-1]
    groups = decay_groups(body, config.student.weight_decay)
    groups.append({"params": list(last.parameters()), "lr": config.student.lr * config.student.last_layer_lr, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, config.student.lr)
    progress = fit(model, optimizer, batches, losses, validate if validation else None, steps, run, settings)
    model.save(run / student.FILE, {"settings": settings, "sampling_seconds": cache.seconds, **vars(progress)})
    run.log(f"wrote {run / student.FILE} after {progress.seconds:.0f} s of training")


if __name__ == "__main__":
    cli.main(main, __doc__)
