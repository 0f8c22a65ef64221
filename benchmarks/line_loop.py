"""The straight line as a hand-written loop; also a script: ``python benchmarks/line_loop.py``."""

import torch
from torch import nn


def train() -> list[tuple[float, float]]:
    """``(train loss, test loss)`` of each of 100 epochs: 0.7 x + 0.3, L1, SGD 0.01, seed 42."""
    x = torch.arange(0, 1, 0.02).unsqueeze(1)
    y = 0.7 * x + 0.3
    x_train, y_train, x_test, y_test = x[:40], y[:40], x[40:], y[40:]
    torch.manual_seed(42)
    model = nn.Linear(1, 1)
    with torch.no_grad():
        torch.manual_seed(42)
        model.weight.copy_(torch.randn(1, 1))
        model.bias.copy_(torch.randn(1))
    loss_fn = nn.L1Loss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    history = []
    for _ in range(100):
        model.train()
        loss = loss_fn(model(x_train), y_train)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.inference_mode():
            test_loss = loss_fn(model(x_test), y_test)
        history.append((loss.item(), test_loss.item()))
    return history


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(train()[-1])
