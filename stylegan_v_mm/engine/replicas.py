"""Models on several processes, for any of mmengine's runners."""

from mmengine.dist import broadcast
from torch import nn

from ..registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class EqualReplicas:
    """Give all processes the weights of the main process.

    ``model_wrapper_cfg`` names this class in place of DistributedDataParallel.
    ``StyleGANV`` averages its gradients itself, with one all-reduce per step,
    and ``ClipTrainLoop`` sets equal random states before each iteration. No
    module wraps the model, so its methods and parameters keep their names.
    """

    def __new__(cls, module: nn.Module) -> nn.Module:  # type: ignore[misc]
        """Broadcast all weights and buffers.

        Args:
            module (nn.Module): A model on its device.

        Returns:
            nn.Module: The same model.
        """
        for value in module.state_dict().values():
            broadcast(value)
        return module
