"""What the notebooks share: tasks, networks, Reptile itself, its evaluation, figures and live views."""

# torch.optim imports this at its first step. If a stop button were pressed at that moment, half of the module would be
# left behind, and no later step would work. Imported after torch.distributed has started, it would keep threads alive.
import torch._dynamo  # noqa: F401

__version__ = "0.2.0"
