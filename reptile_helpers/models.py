"""The networks: plain nn.Sequential models, without running statistics."""

from torch import nn

from reptile_helpers.arguments import require_whole


def sine_mlp() -> nn.Sequential:
    """The paper's sine network, 1-64-64-1 with tanh: float [examples, 1] to float [examples, 1]."""
    return nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))


def omniglot_cnn(ways: int) -> nn.Sequential:
    """The paper's Omniglot network: float [examples, 1, 28, 28] to logits [examples, ways]; 113,221 numbers for 5 ways.

    Four times 3×3 convolution with 64 filters and stride 2, batch norm, ReLU; then one linear layer. Batch norm always
    uses the statistics of the batch at hand: there are no running ones, and `train()` and `eval()` make no difference.
    As in the authors' code, the initial weights are Glorot uniform, biases zero, batch norm's ε is 1e-3. Where an image
    has an even size, padding reaches its left and upper edge only; in TensorFlow ("same") the right and lower one. That
    is the same network for images turned by 180°, with its filters turned, too.
    """
    require_whole(ways=ways)
    blocks = []
    for channels in (1, 64, 64, 64):
        blocks += [
            nn.Conv2d(channels, 64, kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(64, eps=1e-3, track_running_stats=False),
            nn.ReLU(),
        ]
    return _initialize_glorot(nn.Sequential(*blocks, nn.Flatten(), nn.Linear(256, ways)))


def article_cnn(ways: int) -> nn.Sequential:
    """The network of the article that this project makes real: [examples, 1, 28, 28] to logits [examples, ways].

    Twice 3×3 convolution with 64 filters, ReLU, 2×2 max-pooling; then linear layers of 256 and `ways` units.
    Two poolings leave 7×7 of the 28×28 pixels, hence 64·7·7 features (the article says 64·5·5). No batch norm.
    """
    require_whole(ways=ways)
    return nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, ways),
    )  # fmt: skip


def _initialize_glorot(model: nn.Sequential) -> nn.Sequential:
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model
