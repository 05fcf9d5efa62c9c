"""Let a CPU build of torch import a torchvision that was built for CUDA.

Without the operators of its compiled half torchvision refuses to be imported. vLLM's Pixtral needs neither of
them, so they are declared here, in every process whose PYTHONPATH holds this folder.
"""

try:
    import torch
except ImportError:
    pass
else:
    if not hasattr(torch.ops.torchvision, "nms"):
        _operators = torch.library.Library("torchvision", "DEF")
        _operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
