"""Damaged files: each is read, or refused in one clear line, within bounds.

``reader.py`` says what is watched: exceptions, time, memory, writing outside,
other programs. Seeds are fixed; STYLEGAN_V_FUZZ multiplies the numbers.
"""

import random

import pytest
from mutations import mutate
from reading import FACTOR
from seed_files import VIDEOS, video

from stylegan_v_mm.datasets.sources.finding import find_videos

# Kind to how many mutations of each of its files.
NUMBERS = {
    'video': 25, 'image': 40, 'labels': 60, 'zip': 100, 'conversion': 40,
    'snapshot': 40, 'checkpoint': 30, 'latents': 80, 'metrics': 100,
    'feature rows': 100, 'feature statistics': 100,
}  # fmt: skip


def mutations(kind, name, content, count):
    for i in range(round(count * FACTOR)):
        yield mutate(content, random.Random(f'{kind} {name} {i}'))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('kind', NUMBERS)
def test_mutations(kind, seeds, check):
    for name, content in seeds[kind].items():
        check(kind, name, content, ['read'])
        for mutation in mutations(kind, name, content, NUMBERS[kind]):
            check(kind, name, mutation)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_mutations_of_the_index_of_videos(sandbox, check, cache_home):
    """Whatever happened to the cache, the frames are those of the video."""
    (sandbox / 'videos').mkdir()
    video(sandbox / 'videos/a.mp4', *VIDEOS['h264.mp4'])
    find_videos(sandbox / 'videos')
    (cache,) = cache_home.rglob('*.json')
    kind, content = 'index of videos', cache.read_bytes()
    check(kind, 'a.json', content, ['read'])
    for mutation in mutations(kind, 'a.json', content, 60):
        check(kind, 'a.json', mutation, ['read'])
