"""The runner."""

import inspect
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import (
    broadcast_object_list,
    is_distributed,
    is_main_process,
    master_only,
)
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, Priority, Runner
from mmengine.utils import manager
from torch import nn

from ..checkpoints.loading import (
    config_values,
    load_checkpoint,
    load_weights,
)
from ..checkpoints.saving import newest_checkpoint, numbered_checkpoints
from ..checkpoints.transfer import transfer_weights
from ..config.loading import count_processes, resolve_config
from ..errors import InputError, refusals
from ..files import atomic_write, file_lock
from ..registry import RUNNERS
from .optim import keeping_settings
from .replicas import EqualReplicas

# Training, validation and test need all three of their parts.
_PHASES = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
# What of a config makes a run, but for where it lies and starts.
_SETTINGS = {*inspect.signature(Runner).parameters} - {
    'work_dir',
    'load_from',
    'resume',
    'launcher',
    'experiment_name',
    'cfg',
}


@RUNNERS.register_module()
class VideoGANRunner(Runner):
    """mmengine's runner, for models that reduce their gradients themselves.

    Checkpoints appear whole or not at all. They are read without executing
    what they hold, and only if they are of the config's architecture.
    """

    _load_from: str | None

    @classmethod
    def from_cfg(cls, cfg: Config | dict) -> 'VideoGANRunner':
        """Compute the formulas of a config and build a runner from it.

        Args:
            cfg (Config): See :func:`stylegan_v_mm.config.resolve_config`.
                ``work_dir`` defaults to ``work_dirs/NAME_OF_THE_CONFIG``.

        Raises:
            InputError: See :func:`stylegan_v_mm.config.resolve_config`; or a
                part of the run is missing or cannot be built, the batch
                cannot be divided, or the work dir is not writable.
        """
        config = resolve_config(cfg)
        name = config.filename or 'config'
        _check_run(config, name)
        if config.get('work_dir') is None:
            config.work_dir = f'work_dirs/{Path(name).stem}'
        _make_work_dir(config.work_dir)
        with refusals('the config'), _released_lock():
            return super().from_cfg(config)

    def setup_env(self, env_cfg: dict) -> None:
        """Set processes up; on CPU machines they talk by gloo.

        Args:
            env_cfg (dict): mmengine's; and ``tf32``, whether GPUs may round
                the factors of float32 products to 10 bits. Defaults to
                False, as in the published runs.
        """
        tf32 = env_cfg.get('tf32', False)
        if not isinstance(tf32, bool):
            raise InputError(f'env_cfg.tf32={tf32!r} must be True or False')
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        by_torchrun = self.distributed and self._launcher == 'pytorch'
        if by_torchrun and not (is_distributed() or torch.cuda.is_available()):
            # mmengine's own set-up insists on a GPU.
            seconds = env_cfg.get('dist_cfg', {}).get('timeout')
            torch.distributed.init_process_group(
                'gloo', timeout=seconds and timedelta(seconds=seconds)
            )
        super().setup_env(env_cfg)
        # The log folders' names are the order of the runs in a work dir.
        name = [_after_earlier_runs(self.timestamp, Path(self.work_dir))]
        broadcast_object_list(name)
        (self._timestamp,) = name

    def wrap_model(
        self, model_wrapper_cfg: dict | None, model: nn.Module
    ) -> nn.Module:
        """Move the model to its device; start equal on all processes."""
        return EqualReplicas(model.to(get_device()))

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop.

        Raises:
            InputError: A value is out of range.
        """
        with refusals('train_cfg or train_dataloader'):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop.

        Raises:
            InputError: A value is out of range.
        """
        with refusals('val_cfg, val_dataloader or val_evaluator'):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop.

        Raises:
            InputError: A value is out of range.
        """
        with refusals('test_cfg, test_dataloader or test_evaluator'):
            return super().build_test_loop(loop)

    def build_optim_wrapper(
        self, optim_wrapper: OptimWrapper | OptimWrapperDict | dict
    ) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizers.

        Raises:
            InputError: They cannot be built of the config.
        """
        with refusals('optim_wrapper'):
            return super().build_optim_wrapper(optim_wrapper)

    def register_hook(
        self, hook: Hook | dict, priority: str | int | Priority | None = None
    ) -> None:
        """Build a hook, and take it in.

        Raises:
            InputError: A value of the hook is out of range.
        """
        with refusals(f'the hook {hook}'):
            super().register_hook(hook, priority)

    def train(self) -> nn.Module:
        """Train; with ``load_from`` but no ``resume``, from other weights.

        These may be of another data set, resolution or number of classes,
        see :func:`stylegan_v_mm.checkpoints.transfer.transfer_weights`.

        Raises:
            InputError: Another process trains in the work dir, or it holds
                checkpoints that this run would overwrite, or nothing in the
                file fits.
        """
        # The main process holds the lock for all.
        lock = file_lock(Path(self.work_dir, 'train.lock'))
        with lock if is_main_process() else nullcontext():
            held = numbered_checkpoints(self.work_dir)
            if held and not self._resume:
                raise InputError(
                    f'{self.work_dir} holds checkpoints of an earlier run, up '
                    f'to {held[0].name}: --resume goes on from there; to '
                    'start anew, give another --work-dir or remove them'
                )
            super().dump_config()
            if self._load_from is not None and not self._resume:
                checkpoint = load_checkpoint(self._load_from)
                table = transfer_weights(
                    self.model, checkpoint, self._load_from
                )
                self._has_loaded = True
                self.logger.info(f'Start from {self._load_from}:\n{table}')
            return super().train()

    def resume_if_begun(self) -> None:
        """Let :meth:`train` go on with the run in the work dir, if any.

        Weights of another run (``load_from``) are for the start alone. The
        main process looks for all, as elsewhere a shared disk may lag behind.
        """
        begun = [bool(numbered_checkpoints(self.work_dir))]
        broadcast_object_list(begun)
        if begun[0] or self._load_from is None:
            self._resume, self._load_from = True, None

    def dump_config(self) -> None:
        """Leave the work dir's config alone until training starts there.

        mmengine would write it when a runner is built, so that a run which is
        refused, or ``tools/test.py``, replaced that of the training run.
        """

    def load_or_resume(self) -> None:
        """Go on from the newest whole checkpoint, if that is asked for."""
        if self._resume and self._load_from is None:
            # The main process looks for all, as in resume_if_begun(), and
            # reads the files to see whether they are whole.
            found = [None]
            if is_main_process():
                found = [newest_checkpoint(self.work_dir)]
            broadcast_object_list(found)
            if found[0] is None:
                self.logger.info(
                    f'{self.work_dir} holds no checkpoint: starting anew'
                )
                return
            self._load_from = str(found[0])
        super().load_or_resume()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint, with the settings of the config.

        Those of the optimizers, such as ``lr`` and ``betas``, are in the
        checkpoint, too: the config's count, unless a ``param_scheduler`` moves
        them. The log says what differs from the config before, and whether
        the list of clips does.

        Args:
            filename (str): Local path or https URL.
            args: Of mmengine's runner.
            kwargs: Of mmengine's runner.

        Raises:
            InputError: It is not a checkpoint of a run, or one of a run with
                other optimizers.
        """
        settings = keeping_settings(
            self.optim_wrapper, scheduled=bool(self.param_schedulers)
        )
        bad = refusals(
            f'{filename} is not what --resume goes on from, a checkpoint of a '
            'training run with these optimizers (--transfer-from takes '
            'weights alone)'
        )
        with settings, bad:
            super().resume(filename, *args, **kwargs)
        self._log_differences(filename)

    def _log_differences(self, filename: str) -> None:
        """Log how the run that saved a checkpoint differed from this one."""
        before = config_values(f'{self._meta.get("cfg", "")}')
        now = config_values(self.cfg.pretty_text)
        taken: list[str] = []
        others: list[str] = []
        for key in {**now, **before} if before else {}:
            old, new = (x.get(key, 'not set') for x in (before, now))
            # Variables count where formulas use them.
            if old == new or key.partition('.')[0] not in _SETTINGS:
                continue
            optimizer = key.startswith('optim_wrapper.')
            meant = key == 'train_cfg.max_iters' or (
                optimizer and not self.param_schedulers
            )
            texts = taken if meant else others
            texts.append(f'{key}={new}, was {old}')
        if taken:
            self.logger.info(f'going on with {"; ".join(taken)}')
        if others:
            self.logger.warning(
                f'{filename} is of another config: {"; ".join(others)}. What '
                'it holds stays: weights, augmentation strength, seed'
            )
        clips, clips_now = self._meta.get('clips'), self._clips()
        if isinstance(clips, dict) and clips_now and clips != clips_now:
            self.logger.warning(
                f'{filename} is of another list of clips: '
                f'{clips.get("number")} videos before, {clips_now["number"]} '
                'now'
            )

    def _clips(self) -> dict | None:
        """Identify the list of clips; None for a data set of another kind."""
        return getattr(self.train_dataloader.dataset, 'clip_list', None)

    @master_only
    def save_checkpoint(
        self, out_dir: str, filename: str, *args: Any, **kwargs: Any
    ) -> None:
        """Save a checkpoint: the file appears whole or not at all.

        Args:
            out_dir (str): A local folder.
            filename (str): Name of the file.
            args: Of mmengine's runner.
            kwargs: Of mmengine's runner.

        Raises:
            InputError: The file cannot be written.
        """
        path = Path(out_dir, filename)
        kwargs['meta'] = {**(kwargs.get('meta') or {}), 'clips': self._clips()}
        with atomic_write(path) as temporary:
            super().save_checkpoint(out_dir, temporary.name, *args, **kwargs)
            # Older checkpoints may be removed next, so it must be on the disk.
            with temporary.open('rb') as file:
                os.fsync(file.fileno())

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = 'cpu',
        strict: bool = True,
        revise_keys: Sequence = (),
    ) -> dict:
        """Load a checkpoint of the config's architecture.

        It is read into the CPU's memory, whatever the device: mmengine would
        resume with Adam's step counters on a GPU, each of which the CPU then
        waits for in each iteration.

        Args:
            filename (str): Local path or https URL.
            map_location (str or callable): Not used; mmengine's signature.
            strict (bool): Always strict; mmengine's signature.
            revise_keys (list): Not used; mmengine's signature.

        Returns:
            dict: The checkpoint, on the CPU.

        Raises:
            InputError: See :mod:`stylegan_v_mm.checkpoints.loading`.
        """
        checkpoint = load_checkpoint(filename)
        meta = checkpoint.get('meta')
        self._meta = meta if isinstance(meta, dict) else {}
        # Where old versions of mmengine have the config, new ones execute it.
        self._meta.pop('config', None)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_weights(self.model, checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint


@contextmanager
def _released_lock() -> Iterator[None]:
    """Release mmengine's lock of loggers and visualizers after an error.

    mmengine keeps it if one cannot be built; other threads of this process
    would then wait for it for ever when they log something.
    """
    try:
        yield
    except BaseException:
        with suppress(RuntimeError):  # it is free
            manager._release_lock()
        raise


def _check_run(config: Config, name: str) -> None:
    """Check that all parts of a run are there, and the size of its batch.

    Raises:
        InputError: A part is missing, or the batch cannot be divided.
    """
    if 'type' not in config.get('model', {}):
        raise InputError(f'{name}: model must be a dict with a type')
    for phase in _PHASES:
        missing = [part for part in phase if config.get(part) is None]
        if 0 < len(missing) < len(phase):
            raise InputError(
                f'{name}: {missing[0]} is None or not there: of '
                f'{", ".join(phase)} set all or none'
            )
    processes = count_processes(config)
    parts = config.get('accumulative_counts', 1)
    batch_size = config.get('batch_size', processes * parts)
    if min(batch_size, parts) < 1 or batch_size % (processes * parts):
        raise InputError(
            f'{name}: batch_size={batch_size} must be a multiple of the '
            f'{processes} processes times accumulative_counts={parts}'
        )


def _make_work_dir(work_dir: str) -> None:
    """Make the folder of a run, if it is not there.

    Raises:
        InputError: It cannot be made or written to.
    """
    try:
        os.makedirs(work_dir, exist_ok=True)
    except OSError as error:
        raise InputError(
            f'the work dir {work_dir} cannot be made: {error.strerror}'
        ) from error
    if not os.access(work_dir, os.W_OK):
        raise InputError(f'the work dir {work_dir} is not writable')


def _after_earlier_runs(timestamp: str, work_dir: Path) -> str:
    """Name a log folder so that it comes last, wherever the clock went."""
    form = '%Y%m%d_%H%M%S'
    taken = [
        path.name
        for path in work_dir.iterdir()
        if re.fullmatch('[0-9]{8}_[0-9]{6}', path.name)
    ]
    newest = max(taken, default='')
    if timestamp > newest:
        return timestamp
    after = datetime.strptime(newest, form) + timedelta(seconds=1)
    return after.strftime(form)
