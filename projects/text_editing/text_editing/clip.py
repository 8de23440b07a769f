"""CLIP: texts and frames as vectors that can be compared."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_v_mm.errors import InputError


class Clip:
    """The two networks of CLIP (Radford et al. 2021), from local files.

    Args:
        weights (Path): A file of weights (.safetensors, or what ``torch.load``
            reads without executing anything); or a folder that holds them
            and ``open_clip_config.json``, as the Hugging Face hub has it.
        model (str): open_clip's name for the architecture of a file.
        device (torch.device): Where to compute.

    Raises:
        InputError: open_clip is not installed, or the weights are missing,
            damaged or of another architecture.
    """

    def __init__(self, weights: Path, model: str, device: torch.device):
        try:
            import open_clip
        except ImportError as error:
            raise InputError(
                f'{error}: pip install -c requirements/constraints.txt '
                'open_clip_torch'
            ) from error
        if not weights.exists():
            raise InputError(
                f'there is no file {weights}: README.md says where to get '
                'weights of CLIP'
            )
        name = f'local-dir:{weights}' if weights.is_dir() else model
        if name == model and model not in open_clip.list_models():
            raise InputError(
                f'--clip-model {model}: open_clip has '
                f'{", ".join(open_clip.list_models())}'
            )
        try:
            self.model = open_clip.create_model(
                name,
                None if weights.is_dir() else str(weights),
                device=device,
                require_pretrained=True,
            )
            self.tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:
            # torch, safetensors and open_clip raise a dozen types here.
            reason = str(error).strip().split('\n')[0]
            raise InputError(
                f'{weights} holds no weights of {name} that can be read '
                f'safely ({type(error).__name__}: {reason})'
            ) from error
        self.model.requires_grad_(False).eval()
        self.device = device
        visual = self.model.visual
        size = visual.image_size
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        mean, std = visual.image_mean, visual.image_std
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Encode N texts as unit vectors [N, D]."""
        tokens = self.tokenizer(list(texts)).to(self.device)
        return self.model.encode_text(tokens, normalize=True)

    def frames(self, frames: Tensor) -> Tensor:
        """Encode frames [M, 3, H, W], about [-1, 1], as unit vectors [M, D].

        They are resized to CLIP's resolution and normalised by its mean and
        standard deviation, like its training images. Gradients pass through.
        """
        frames = (frames + 1) / 2
        if frames.shape[2:] != self.size:
            frames = F.interpolate(
                frames, self.size, mode='bicubic', antialias=True
            )
        frames = (frames.clamp(0, 1) - self.mean) / self.std
        return self.model.encode_image(frames, normalize=True)
