"""The registries of this library: children of mmengine's, one scope.

A config of another OpenMMLab library names our parts with the scope in
front, e.g. ``type='stylegan_v_mm.StyleGANVGenerator'``.
"""

from mmengine import registry as root

_SCOPE = 'stylegan_v_mm'


def _child(parent: root.Registry, room: str) -> root.Registry:
    return root.Registry(
        parent.name, parent=parent, scope=_SCOPE, locations=[f'{_SCOPE}.{room}']
    )


MODELS = _child(root.MODELS, 'models')
DATASETS = _child(root.DATASETS, 'datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets')
METRICS = _child(root.METRICS, 'evaluation')
HOOKS = _child(root.HOOKS, 'engine')
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
RUNNERS = _child(root.RUNNERS, 'engine')
