"""Snapshots in the published pickle layout, made of our own networks.

As in a published one, each network is a call of a function that would execute
the source code beside it; the code here would leave a file.
"""

import copy
import pickle
import sys
import types
from contextlib import contextmanager

import torch
from torch import nn

REBUILD = '_reconstruct_persistent_obj'


@contextmanager
def published_modules(prefix):
    """Let pickle find the names that published snapshots ask for."""
    names = {
        f'{prefix}torch_utils.persistence': [REBUILD],
        f'{prefix}dnnlib.util': ['EasyDict'],
        'training.layers': ['TemporalDifferenceEncoder'],
        'omegaconf.dictconfig': ['DictConfig'],
        'omegaconf.nodes': ['AnyNode'],
    }
    made = {}
    for module, members in names.items():
        for part in (module.split('.')[: i + 1] for i in range(3)):
            made.setdefault('.'.join(part), types.ModuleType('.'.join(part)))
        for name in members:
            bases = (dict,) if name == 'EasyDict' else ()
            member = type(name, bases, {'__module__': module})
            setattr(made[module], name, member)
    before = dict(sys.modules)
    sys.modules.update(made)
    try:
        yield {k: getattr(made[m], k) for m, ks in names.items() for k in ks}
    finally:
        for name in made:
            sys.modules.pop(name)
        sys.modules.update({k: v for k, v in before.items() if k in made})


class Publisher:
    """Makes the published form of networks.

    Args:
        classes (dict): From :func:`published_modules`.
        code (str): The source code beside each network.
    """

    def __init__(self, classes, code):
        self.classes = classes
        self.code = code

    def config(self, value, parent=None):
        """A nested dict as omegaconf keeps it."""
        kind = 'DictConfig' if isinstance(value, dict) else 'AnyNode'
        node = self.classes[kind]()
        content = value
        if isinstance(value, dict):
            content = {k: self.config(v, node) for k, v in value.items()}
        key = '_content' if isinstance(value, dict) else '_val'
        node.__dict__ |= {'_parent': parent, key: content}
        return node

    def network(self, module, **attributes):
        """A module with its source code; attributes come on top."""
        children = module._modules | attributes.pop('_modules', {})
        state = dict(
            training=False,
            _parameters=module._parameters,
            _buffers=module._buffers,
            _modules={n: self.child(c) for n, c in children.items()},
            **attributes,
        )
        meta = dict(
            type='class',
            version=6,
            module_src=self.code,
            class_name=type(module).__name__,
            state=state,
        )
        return Call(self.classes[REBUILD], meta)

    def child(self, module):
        if isinstance(module, Call) or type(module) in (nn.Embedding, nn.LSTM):
            return module
        plain = {
            nn.Sequential: nn.Sequential,
            'TemporalDifferenceEncoder': self.classes[
                'TemporalDifferenceEncoder'
            ],
        }
        for key in (type(module), type(module).__name__):
            if key in plain:
                made = plain[key]()
                parts = module._modules.items()
                made.__dict__ |= dict(
                    _parameters={},
                    _buffers={},
                    _modules={n: self.child(part) for n, part in parts},
                )
                return made
        return self.network(module)


class Call:
    """Is pickled as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call

    def __deepcopy__(self, memo):
        return self  # rather than make the call


def publish(gan, path, cfg=None, code='', image_names=False, **more):
    """Write a GAN of ours as a published snapshot.

    Args:
        gan (StyleGANV): The GAN.
        path (Path): The file.
        cfg (dict, optional): The generator's and discriminator's config of
            StyleGAN-V, in sections ``model`` and ``sampling``; None for
            StyleGAN2-ADA, which has none.
        code (str): Source code to embed.
        image_names (bool): Whether the constant has StyleGAN2-ADA's name.
        more: Further items of the snapshot; None takes one away.
    """
    gan = copy.deepcopy(gan)
    # Each layer of a published one has its constants.
    constant = torch.ones(4, 4)
    gan.generator_ema.synthesis.b4.register_buffer('resample_filter', constant)
    prefix = '' if cfg is None else 'src.'
    with published_modules(prefix) as classes:
        publisher = Publisher(classes, code)
        content = {
            'G': generator(publisher, gan.generator, cfg, image_names),
            'D': discriminator(publisher, gan.discriminator, cfg),
            'G_ema': generator(publisher, gan.generator_ema, cfg, image_names),
            'augment_pipe': None,
            'training_set_kwargs': classes['EasyDict'](path='data/x.zip'),
        }
        if gan.augment is not None:
            content['augment_pipe'] = publisher.network(
                gan.augment, **gan.augment.transforms
            )
        content |= more
        content = {k: v for k, v in content.items() if v is not None}
        path.write_bytes(pickle.dumps(content))


def generator(publisher, network, cfg, image_names):
    if image_names:
        block = network.synthesis.b4
        block._parameters['const'] = block._modules.pop('input').input
    channels = {
        res: getattr(network.synthesis, f'b{res}').conv1.weight.shape[0]
        for res in (4, network.resolution)
    }
    attributes = dict(
        z_dim=network.z_dim,
        c_dim=network.c_dim,
        w_dim=network.w_dim,
        img_resolution=network.resolution,
        img_channels=3,
        _init_kwargs=publisher.classes['EasyDict'](
            synthesis_kwargs=publisher.classes['EasyDict'](
                channel_base=channels[network.resolution] * network.resolution,
                channel_max=channels[4],
                num_fp16_res=2,
                conv_clamp=None,
            )
        ),
    )
    if cfg is not None:
        root = publisher.config(cfg)
        model = root._content['model']
        attributes['cfg'] = model._content['generator']
    return publisher.network(network, **attributes)


def discriminator(publisher, network, cfg):
    more = {}
    if cfg is not None:
        root = publisher.config(cfg)
        more['cfg'] = root._content['model']._content['discriminator']
    if hasattr(network, 'image_discr'):
        image = discriminator(publisher, network.image_discr, cfg)
        return publisher.network(
            network, _modules={'image_discr': image}, **more
        )
    top = getattr(network, f'b{network.resolution}')
    statistics = publisher.network(nn.Module(), group_size=4, num_channels=1)
    epilogue = publisher.network(network.b4, _modules={'mbstd': statistics})
    return publisher.network(
        network,
        _modules={'b4': epilogue},
        c_dim=network.c_dim,
        img_resolution=network.resolution,
        _init_kwargs=dict(
            channel_base=top.fromrgb.weight.shape[0] * network.resolution,
            channel_max=network.b4.conv.weight.shape[0],
            num_fp16_res=2,
            conv_clamp=None,
        ),
        **more,
    )
