"""The runner, and the optimizers of the two networks."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast, is_distributed, master_only
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn

from ..allocation import keep_freed_memory
from ..checkpoint import (
    load_checkpoint,
    load_weights,
    newest_checkpoint,
    numbered_checkpoints,
)
from ..errors import InputError
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, RUNNERS
from ..transfer import transfer_weights


@RUNNERS.register_module()
class VideoGANRunner(Runner):
    """mmengine's runner, for models that reduce their gradients themselves.

    Checkpoints appear whole or not at all. They are read without executing
    what they hold, and only if they are of the config's architecture.
    """

    def setup_env(self, env_cfg: dict) -> None:
        """Set processes up; on CPU machines they talk by gloo.

        Args:
            env_cfg (dict): mmengine's; and ``tf32``, whether GPUs may round
                the factors of float32 products to 10 bits. Defaults to
                False, as in the published runs.
        """
        tf32 = env_cfg.get('tf32', False)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        by_torchrun = self.distributed and self._launcher == 'pytorch'
        if by_torchrun and not (is_distributed() or torch.cuda.is_available()):
            # mmengine's own set-up insists on a GPU.
            torch.distributed.init_process_group('gloo')
        if not torch.cuda.is_available():
            keep_freed_memory()
        super().setup_env(env_cfg)

    def set_randomness(
        self,
        seed: int | None,
        diff_rank_seed: bool = False,
        deterministic: bool = False,
    ) -> None:
        """Seed all random states, equally in all processes.

        Raises:
            InputError: ``diff_rank_seed`` is set.
        """
        if diff_rank_seed:
            raise InputError(
                'randomness.diff_rank_seed=True: remove it, as processes '
                'draw from equal random states and take their own share'
            )
        super().set_randomness(seed, False, deterministic)

    def wrap_model(
        self, model_wrapper_cfg: dict | None, model: nn.Module
    ) -> nn.Module:
        """Move the model to its device; start equal on all processes."""
        model = model.to(get_device())
        for value in model.state_dict().values():
            broadcast(value)
        return model

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, and check that data and model fit.

        Raises:
            InputError: Labels are not as wide as the model's condition.
        """
        return self._check_labels(super().build_train_loop(loop))

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, and check that data and model fit.

        Raises:
            InputError: Labels are not as wide as the model's condition.
        """
        return self._check_labels(super().build_val_loop(loop))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, and check that data and model fit.

        Raises:
            InputError: Labels are not as wide as the model's condition.
        """
        return self._check_labels(super().build_test_loop(loop))

    def _check_labels(self, loop: BaseLoop) -> BaseLoop:
        classes, c_dim = loop.dataloader.dataset.c_dim, self.model.c_dim
        if classes != c_dim:
            raise InputError(
                f'the labels of the data are {classes} wide, the model takes '
                f'{c_dim}: set num_classes={classes}, or labels=None and '
                'num_classes=0 to do without'
            )
        return loop

    def train(self) -> nn.Module:
        """Train; with ``load_from`` but no ``resume``, from other weights.

        These may be of another data set, resolution or number of classes,
        see :func:`stylegan_v_mm.transfer.transfer_weights`.

        Raises:
            InputError: The work dir holds checkpoints that another run would
                overwrite, or nothing in the file fits.
        """
        held = numbered_checkpoints(self.work_dir)
        if held and not self._resume:
            raise InputError(
                f'{self.work_dir} holds checkpoints of an earlier run, up to '
                f'{held[0].name}: --resume goes on from there; to start '
                'anew, give another --work-dir or remove them'
            )
        if self._load_from is not None and not self._resume:
            checkpoint = load_checkpoint(self._load_from)
            table = transfer_weights(self.model, checkpoint, self._load_from)
            self._has_loaded = True
            self.logger.info(f'Start from {self._load_from}:\n{table}')
        return super().train()

    def load_or_resume(self) -> None:
        """Go on from the newest whole checkpoint, if that is asked for."""
        if self._resume and self._load_from is None:
            newest = newest_checkpoint(self.work_dir)
            if newest is None:
                self.logger.info(
                    f'{self.work_dir} holds no checkpoint: starting anew'
                )
                return
            self._load_from = str(newest)
        super().load_or_resume()

    @master_only
    def save_checkpoint(
        self, out_dir: str, filename: str, *args, **kwargs
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
        temporary = path.with_name(f'.{filename}.tmp')
        try:
            super().save_checkpoint(out_dir, temporary.name, *args, **kwargs)
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(
                f'the checkpoint {path} cannot be written: {error.strerror}; '
                'older ones are as they were'
            ) from error

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = True,
        revise_keys: list = (),
    ) -> dict:
        """Load a checkpoint of the config's architecture.

        Args:
            filename (str): Local path or https URL.
            map_location (str or callable): See ``torch.load``.
            strict (bool): Always strict; mmengine's signature.
            revise_keys (list): Not used; mmengine's signature.

        Returns:
            dict: The checkpoint.

        Raises:
            InputError: See :mod:`stylegan_v_mm.checkpoint`.
        """
        checkpoint = load_checkpoint(filename, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_weights(self.model, checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GANOptimWrapperConstructor:
    """Build an optimizer for each network that the config names.

    Our own, as mmagic's ``MultiOptimWrapperConstructor`` imports all of
    mmagic's models.

    Raises:
        InputError: ``accumulative_counts`` is set here: mmengine's would
            step one network between two parts of the other's batch.

    Args:
        optim_wrapper_cfg (dict): Name of a child of the model -> config of
            its ``OptimWrapper``.
        paramwise_cfg (dict, optional): Not used; mmengine's signature.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ):
        for name, cfg in optim_wrapper_cfg.items():
            if cfg.get('accumulative_counts', 1) != 1:
                raise InputError(
                    f'optim_wrapper.{name}.accumulative_counts: set the '
                    'variable accumulative_counts of the config instead'
                )
        self.optim_wrapper_cfg = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build ``OptimWrapperDict(generator=..., discriminator=...)``."""
        return OptimWrapperDict(
            **{
                name: build_optim_wrapper(getattr(model, name), cfg)
                for name, cfg in self.optim_wrapper_cfg.items()
            }
        )
