"""Where tensors live."""

import torch


def available(name: str) -> bool:
    """Whether this machine has the device ``cpu``, ``cuda`` or ``mps``."""
    if name == "cuda":
        return torch.cuda.is_available()
    return name != "mps" or torch.backends.mps.is_available()


def pick(wanted: str) -> torch.device:
    """``auto`` is the first accelerator that answers, else the CPU."""
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device(next(name for name in ("cuda", "mps", "cpu") if available(name)))
