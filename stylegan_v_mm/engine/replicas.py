"""Models on several processes, for any of mmengine's runners."""

from mmengine.dist import broadcast
from torch import nn

from ..registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class EqualReplicas:
    """Start a model equal on all processes; it stays what it is.

    For ``model_wrapper_cfg``, in place of DistributedDataParallel:
    ``StyleGANV`` averages its gradients itself, by one all-reduce a step, and
    ``ClipTrainLoop`` sets equal random states before each. No module is put
    around the model, so that its methods and parameters keep their names.
    """

    def __new__(cls, module: nn.Module) -> nn.Module:  # type: ignore[misc]
        """Copy all weights and buffers from the main process.

        Args:
            module (nn.Module): A model, on its device.

        Returns:
            nn.Module: The same one.
        """
        for value in module.state_dict().values():
            broadcast(value)
        return module
