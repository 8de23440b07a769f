"""Configs of detectors, chosen by what a file holds."""

import zipfile

from ...checkpoints.downloads import local_file


def detector_config(path: str, weights: str, script: str) -> dict:
    """Choose the class that reads a detector's file.

    Args:
        path: A file or its URL.
        weights: The class that reads a plain file of weights.
        script: The class that reads TorchScript.

    Returns:
        Config of a detector.

    Raises:
        InputError: The file is not there.
    """
    file = local_file(path, 'docs/metrics.md says where to get it')
    is_script = zipfile.is_zipfile(file) and any(
        '/code/' in name for name in zipfile.ZipFile(file).namelist()
    )
    return dict(type=script if is_script else weights, path=str(file))


def i3d_config(name: str) -> dict:
    """Choose an I3D.

    Args:
        name: 'i3d' for the file of ``tools/get_detectors.py``, 'random' for
            random weights, or a file or its URL.

    Returns:
        Config of a detector.

    Raises:
        InputError: The file is not there.
    """
    if name == 'i3d':
        return dict(type='I3D')
    if name == 'random':
        return dict(type='RandomI3D')
    return detector_config(name, 'I3D', 'I3DTorchScript')
