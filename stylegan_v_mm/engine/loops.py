"""The training loop: one that can be stopped and continued exactly."""

import signal
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

import torch
from mmengine.dist import broadcast_object_list, get_world_size
from mmengine.runner import BaseLoop, Runner, set_random_seed
from torch import nn
from torch.utils.data import DataLoader

from ..errors import InputError, check_at_least
from ..registry import LOOPS

# An odd number: the iterations' seeds of neighbouring runs lie far apart.
SEED_STRIDE = 2654435761


def _start_worker(init: Callable[[int], None] | None, worker_id: int) -> None:
    """Let a data worker outlive SIGTERM, so that the main process can save.

    Slurm and torchrun send it to all processes of a job.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if init is not None:
        init(worker_id)


@LOOPS.register_module()
class ClipTrainLoop(BaseLoop):
    """Train for a number of iterations on a stream of clips.

    Iteration i is determined by the seed of the run, i and the state in the
    checkpoint: it sees the i-th batch of a ``ClipSampler``'s stream, and all
    random states, equal in all processes, are set anew before it. A run that
    was stopped and continued is the run that was never stopped.

    mmengine's ``IterBasedTrainLoop`` decodes all clips again that were seen
    before, and continues with other random numbers.

    Args:
        runner (Runner): Who trains.
        dataloader (DataLoader or dict): Batches of clips; its sampler is a
            ``ClipSampler``.
        max_iters (int): Iterations of the whole training.
        val_begin (int): First iteration after which to validate; 0 also
            validates before the first one. Defaults to 1.
        val_interval (int): Iterations from one validation to the next; 0
            for none, whatever ``val_cfg`` says. Defaults to 1000.

    Raises:
        InputError: The data loader has ``persistent_workers`` or no batch
            size, or a number is out of range.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
    ) -> None:
        super().__init__(runner, dataloader)
        if self.dataloader.persistent_workers:
            raise InputError(
                'train_dataloader.persistent_workers=True: remove it, as the '
                'stream of clips is read once and has no end'
            )
        if self.dataloader.batch_size is None:
            raise InputError('train_dataloader.batch_size must be a number')
        check_at_least(1, 'train_cfg', max_iters=max_iters)
        check_at_least(
            0, 'train_cfg', val_begin=val_begin, val_interval=val_interval
        )
        if val_interval == 0:
            # Before the runner builds it, and detectors are loaded for it.
            runner._val_loop = None
        self.max_iters = max_iters
        self.val_begin = val_begin
        self.val_interval = val_interval
        #: Set to end training after the current iteration.
        self.stop_training = False
        # That of the main process, should the others have their own
        # (mmengine's ``diff_rank_seed``).
        seed = [runner.seed]
        broadcast_object_list(seed)
        (self._seed,) = seed
        # mmengine's names for where the training is; it sets them to resume.
        self._iter = self._epoch = 0
        self.max_epochs = 1
        runner.visualizer.dataset_meta = getattr(
            self.dataloader.dataset, 'metainfo', {}
        )

    @property
    def iter(self) -> int:
        """Iterations that are done."""
        return self._iter

    @property
    def epoch(self) -> int:
        """Always 0: there are no epochs."""
        return self._epoch

    def run(self) -> nn.Module:
        """Train from the current iteration to the last."""
        runner, loader = self.runner, self.dataloader
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
        # From there the GPU takes batches while the CPU goes on.
        loader.pin_memory = torch.cuda.is_available()
        loader.sampler.seed = self._seed
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        if runner.val_loop and self._iter == self.val_begin == 0:
            runner.val_loop.run()
        # Closing it ends the workers, which ignore SIGTERM: Python's exit
        # would wait for them.
        with closing(self._batches()) as batches:
            while self._iter < self.max_iters and not self.stop_training:
                self.run_iter(next(batches))
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _batches(self) -> Generator[dict, None, None]:
        """Read the stream of clips from the current iteration on.

        A worker that the system kills, as it does where memory runs out, is
        replaced; the batches stay the same.

        Raises:
            InputError: The new ones do not live to give a batch either.
        """
        loader, died_at = self.dataloader, None
        while True:
            batch_size = loader.batch_size * get_world_size()
            loader.sampler.start = self._iter * batch_size
            batches = iter(loader)
            # torch would interrupt whatever runs when a worker dies, be it
            # half-way through an optimizer's step or a checkpoint. It also
            # looks after them where it waits for a batch.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                while True:
                    yield next(batches)
            except (RuntimeError, OSError, EOFError) as error:
                # So torch starts what was raised inside of a worker.
                if not loader.num_workers or str(error).startswith('Caught '):
                    raise
                if died_at == self._iter:
                    raise InputError(
                        f'data workers die before iteration {died_at + 1}: '
                        f'{error}; if memory runs out, a smaller num_workers '
                        'takes less, and --resume goes on'
                    ) from error
                died_at = self._iter
                self.runner.logger.warning(f'{error}; starting new workers')
            finally:
                del batches

    def run_iter(self, data_batch: dict) -> None:
        """Train on a batch; validate where it is time to."""
        runner = self.runner
        set_random_seed((self._seed * SEED_STRIDE + self._iter) % 2**32)
        runner.model.train()
        where = dict(batch_idx=self._iter, data_batch=data_batch)
        runner.call_hook('before_train_iter', **where)
        outputs = runner.model.train_step(data_batch, runner.optim_wrapper)
        runner.call_hook('after_train_iter', **where, outputs=outputs)
        self._iter += 1
        if runner.val_loop and self._iter >= self.val_begin:
            due = self._iter % self.val_interval == 0
            if due or self._iter == self.max_iters:
                runner.val_loop.run()
