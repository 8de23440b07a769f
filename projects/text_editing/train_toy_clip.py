"""Train a tiny CLIP on videos in folders that are named by what they show.

It knows only the names of the folders, which is enough to try text editing
without the weights of a real CLIP.

Example:
    python projects/text_editing/train_toy_clip.py data/three_colours
    --out work_dirs/toy_clip
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from stylegan_v_mm.checkpoints.saving import save_checkpoint
from stylegan_v_mm.cli import positive_int, run_tool, tool_parser
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write, check_writable
from stylegan_v_mm.video.decoding import decode_frames
from stylegan_v_mm.video.index import index_video

CONFIG = dict(
    embed_dim=64,
    vision_cfg=dict(
        image_size=32, layers=3, width=64, patch_size=4, head_width=16
    ),
    text_cfg=dict(
        context_length=16, vocab_size=49408, width=64, heads=4, layers=2
    ),
)
NORMALIZATION = dict(mean=[0.5] * 3, std=[0.5] * 3)


def read_frames(folder: Path) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Decode some frames of each video.

    Returns:
        Names of the folders; frames [M, 3, 32, 32] in [-1, 1]; the index of
        each frame's folder [M].

    Raises:
        InputError: There are no folders of videos.
    """
    names, frames, labels = [], [], []
    for path in sorted(folder.glob('*/*.mp4')):
        if path.parent.name not in names:
            names.append(path.parent.name)
        index = index_video(path)
        chosen = range(0, index.num_frames, 8)
        images = torch.from_numpy(decode_frames(index, list(chosen)))
        images = images.permute(0, 3, 1, 2) / 127.5 - 1
        size = (32, 32)
        frames.append(F.interpolate(images, size, mode='area'))
        labels += [len(names) - 1] * len(images)
    if len(names) < 2:
        raise InputError(
            f'{folder} must hold folders of .mp4 files, named by what they '
            'show'
        )
    return names, torch.cat(frames), torch.tensor(labels)


def main() -> None:
    """Parse the command line, train and write a folder."""
    parser = tool_parser(__doc__)
    parser.add_argument('data', type=Path, help='folder of folders of videos')
    parser.add_argument('--out', type=Path, required=True, help='a folder')
    parser.add_argument('--steps', type=positive_int, default=300)
    args = parser.parse_args()
    try:
        import open_clip
    except ImportError as error:
        raise InputError(
            f'{error}: pip install -c requirements/constraints.txt '
            'open_clip_torch'
        ) from error
    names, frames, labels = read_frames(args.data)
    check_writable(args.out)
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    texts = [f'a {name} thing' for name in names]
    tokens = open_clip.SimpleTokenizer(context_length=16)(texts)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    progress = tqdm(range(args.steps), unit='step')
    for _ in progress:
        rows = torch.randint(len(frames), [64])
        # Contrast and brightness do not depend on the class.
        shape = (64, 1, 1, 1)
        images = frames[rows] * (0.7 + 0.6 * torch.rand(shape))
        images = images + 0.2 * torch.randn(shape)
        images = images + 0.1 * torch.randn_like(images)
        image = model.encode_image(images, normalize=True)
        text = model.encode_text(tokens, normalize=True)
        loss = F.cross_entropy(10 * image @ text.T, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress.set_postfix(loss=f'{loss.item():.3f}', refresh=False)
    config = dict(model_cfg=CONFIG, preprocess_cfg=NORMALIZATION)
    with atomic_write(args.out / 'open_clip_config.json') as temporary:
        temporary.write_text(json.dumps(config))
    weights = {'state_dict': model.state_dict()}
    save_checkpoint(weights, args.out / 'open_clip_model.safetensors')
    print(f'wrote {args.out}, which knows: {", ".join(texts)}')


if __name__ == '__main__':
    run_tool(main)
