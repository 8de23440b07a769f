"""Videos of plain frames, as a file or as a folder of pictures."""

import cv2
import numpy as np

from stylegan_v_mm.video.encoding import write_video


def write_clip(path, num_frames, width=64, height=48, fps=25, grey=90):
    frames = np.full((num_frames, 3, height, width), grey, np.uint8)
    write_video(path, frames, fps)


def write_frames(folder, num_frames, size=40):
    folder.mkdir(parents=True)
    for i in range(num_frames):
        image = np.full((size, size, 3), 8 * i, np.uint8)
        assert cv2.imwrite(str(folder / f'{i}.png'), image)
