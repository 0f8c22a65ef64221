"""The devices on which tensors live."""

import torch


def available(name: str) -> bool:
    """Return whether this machine has the device ``cpu``, ``cuda`` or ``mps``."""
    if name == "cuda":
        return torch.cuda.is_available()
    return name != "mps" or torch.backends.mps.is_available()


def pick(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is the first accelerator there is, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device(next(each for each in ("cuda", "mps", "cpu") if available(each)))
