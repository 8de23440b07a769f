"""Check that data, model and metrics fit each other."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from ...datasets.workers import check_workers
from ...errors import InputError
from ...registry import HOOKS

# What a training clip holds, and how many dimensions it has.
_KEYS = dict(video=4, t=1, c=1, gen_t=2, gen_c=2)


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Check that data, model and metrics fit, before any long work.

    Before training, that is one clip of the training data, the size of the
    batches, and what validation would generate; before a test, the clips that
    it would generate. Data workers are checked in both cases.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and those of the validation.

        Raises:
            InputError: A clip lacks something, or has another number of
                frames, another size or a wider label than the model takes; a
                batch cannot be divided; data workers cannot start; or see
                :meth:`before_test`.
        """
        loader, model = runner.train_loop.dataloader, runner.model
        check_workers(loader.num_workers)
        clip = loader.dataset[next(iter(loader.sampler))]
        check_clip(clip, model)
        check_label(clip['c'], model)
        check_batch_size(loader.batch_size, model)
        self._warn_of_enlarging(runner, loader)
        if runner.val_loop is not None:
            check_generated(runner.val_loop, model)

    def before_test(self, runner: Runner) -> None:
        """Check the clips to be generated.

        Raises:
            InputError: Labels are not as wide as the model's condition, or a
                metric needs longer or larger clips.
        """
        check_generated(runner.test_loop, runner.model)

    @staticmethod
    def _warn_of_enlarging(runner: Runner, loader: DataLoader) -> None:
        dataset = loader.dataset
        if not hasattr(dataset, 'frame_size'):
            return
        height, width = dataset.frame_size()
        resolution = runner.model.generator.resolution
        if min(height, width) < resolution:
            where = getattr(dataset, 'data_root', type(dataset).__name__)
            runner.logger.warning(
                f'{where}: videos are enlarged to resolution={resolution}, '
                f'as the first one is {width} x {height}'
            )


def check_clip(clip: dict, model: Any) -> None:
    """Check that the model can train on a clip.

    Args:
        clip (dict): An item of the data set, see ``StyleGANV.train_step``.
        model (StyleGANV): To be trained.

    Raises:
        InputError: Something is missing, or the clip has another number of
            frames or another size than the networks take.
    """
    for key, num_dims in _KEYS.items():
        if key not in clip:
            raise InputError(
                f'train_dataloader.dataset gives no {key!r}: its pipeline '
                'needs SampleClip with num_gen=2 and, at the end, PackClip'
            )
        value = clip[key]
        if getattr(value, 'ndim', None) != num_dims:
            found = getattr(value, 'shape', type(value).__name__)
            raise InputError(
                f'train_dataloader.dataset gives {key!r} as '
                f'{found if isinstance(found, str) else list(found)}, not an '
                f'array of {num_dims} dimensions'
            )
    if len(clip['gen_t']) != 2:
        raise InputError(
            f'SampleClip: num_gen={len(clip["gen_t"])} must be 2: a batch for '
            'the generator, and one for the discriminator'
        )
    num_frames, _, *size = clip['video'].shape
    wanted = getattr(model.discriminator, 'num_frames', num_frames)
    if num_frames != wanted:
        raise InputError(
            f'SampleClip gives clips of {num_frames} frames, but '
            f'model.discriminator.num_frames={wanted}: they must be equal'
        )
    resolution = model.generator.resolution
    if size != [resolution] * 2:
        raise InputError(
            f'the pipeline gives frames of {size[1]} x {size[0]}, but '
            f'model.generator.resolution={resolution}: set ResizeCrop to the '
            'same'
        )


def check_label(label: Sequence, model: Any) -> None:
    """Check that a label is as wide as the model's condition.

    Raises:
        InputError: It is not.
    """
    classes, c_dim = len(label), model.c_dim
    if classes == 0 < c_dim:
        raise InputError(
            f'num_classes={c_dim}, but the data has no labels: set labels '
            "to 'folder', a .json or a .csv file, or num_classes=0"
        )
    if classes != c_dim:
        raise InputError(
            f'the labels of the data are {classes} wide, the model takes '
            f'{c_dim}: set num_classes={classes}, or labels=None and '
            'num_classes=0 to do without'
        )


def check_batch_size(batch_size: int, model: Any) -> None:
    """Check that a batch can be divided as the model does.

    Args:
        batch_size (int): Clips a batch of one process.
        model (StyleGANV): To be trained.

    Raises:
        InputError: It cannot be split into the parts that go through the
            networks at once, or these not into groups of the minibatch
            statistics.
    """
    part, rest = divmod(batch_size, model.accumulative_counts)
    if rest or not part:
        raise InputError(
            f'a batch of {batch_size} clips a process is no multiple of '
            f'model.accumulative_counts={model.accumulative_counts}'
        )
    group = getattr(model.discriminator, 'mbstd_group_size', None) or part
    if part % min(group, part):
        raise InputError(
            f'model.discriminator.mbstd_group_size={group}: the {part} clips '
            'that a process has at a time cannot be split in groups of so '
            'many; choose a divisor'
        )


def check_generated(loop: BaseLoop, model: Any) -> None:
    """Check that model and metrics take the clips that a loop generates.

    Raises:
        InputError: One of them does not, or data workers cannot start.
    """
    check_workers(loop.dataloader.num_workers)
    item = loop.dataloader.dataset[0]
    check_label(item['c'], model)
    resolution = model.generator.resolution
    clip = torch.empty(()).expand(len(item['t']), 3, resolution, resolution)
    for metric in loop.evaluator.metrics:
        if not isinstance(metric, BaseMetric):
            raise InputError(
                f'{metric!r} is no metric: the evaluator lists dicts, or '
                "formulas that name one, as '= fvd2048_16f'"
            )
        if hasattr(metric, 'check_size'):
            metric.check_size(clip)
