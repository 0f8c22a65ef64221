"""fitserve: a service that turns tables into trained PyTorch models over HTTP."""

__version__ = "0.1.0"
