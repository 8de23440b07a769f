"""The registries of this library: children of mmengine's, one scope.

A config of another OpenMMLab library names our parts with the scope in
front, e.g. ``type='stylegan_v_mm.StyleGANVGenerator'``.
"""

from mmengine import registry as root

_SCOPE = 'stylegan_v_mm'


def _child(parent: root.Registry, *rooms: str) -> root.Registry:
    locations = [f'{_SCOPE}.{room}' for room in rooms]
    return root.Registry(
        parent.name, parent=parent, scope=_SCOPE, locations=locations
    )


MODELS = _child(root.MODELS, 'models', 'evaluation')

DATASETS = _child(root.DATASETS, 'datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets')

METRICS = _child(root.METRICS, 'evaluation')

HOOKS = _child(root.HOOKS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
RUNNERS = _child(root.RUNNERS, 'engine')

# Empty, but mmengine warns at each look-up in a scope that lacks them.
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'datasets')
EVALUATOR = _child(root.EVALUATOR, 'evaluation')
FUNCTIONS = _child(root.FUNCTIONS, 'datasets')
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, 'engine')
LOOPS = _child(root.LOOPS, 'engine')
OPTIMIZERS = _child(root.OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, 'engine')
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, 'engine')
VISBACKENDS = _child(root.VISBACKENDS, 'engine')
VISUALIZERS = _child(root.VISUALIZERS, 'engine')
