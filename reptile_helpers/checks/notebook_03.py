"""Checks for the exercises of notebook 03."""

import torch
from torch.func import grad
from torch.utils._python_dispatch import TorchDispatchMode

from reptile_helpers.checks.exercise import close, exercise, require


def _maml(loss, phi, batches, alpha):
    *steps, last = batches

    def loss_after(phi):
        for batch in steps:
            phi = phi - alpha * grad(loss)(phi, batch)
        return loss(phi, last)

    return grad(loss_after)(phi)


def _inner_loop(loss, phi, batches, alpha):
    """The gradients of all inner steps, and where the last one ends."""
    gradients = []
    for batch in batches:
        gradients.append(grad(loss)(phi, batch))
        phi = phi - alpha * gradients[-1]
    return gradients, phi


@exercise(reference=_maml)
def maml(f):
    def loss(w, batch):
        x, y = batch
        return ((x * w).sin().sum(-1) - y).square().mean()

    for k, alpha in ((1, 0.1), (2, 0.1), (4, 0.05)):
        phi = torch.randn(3, dtype=torch.float64)
        batches = [(torch.randn(6, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)) for _ in range(k)]
        before = phi.clone()
        result = f(loss, phi, batches, alpha)
        require(torch.equal(phi, before), "phi itself has changed: write phi = phi - …, which makes a new tensor")
        require(
            isinstance(result, torch.Tensor) and list(result.shape) == [3],
            "return a gradient: one tensor with the shape of phi",
        )
        expected = _maml(loss, phi, batches, alpha)
        gradients, end = _inner_loop(loss, phi, batches, alpha)
        require(not close(-result, expected), "the sign is wrong: return the gradient itself, not the step against it")
        if k > 1:
            require(
                not close(result, gradients[-1]),
                "that is FOMAML's gradient: it treats the point that the steps reach as a constant. "
                "Differentiate a function that starts at phi and takes the steps itself",
            )
            require(
                not close(result, grad(loss)(phi, batches[-1])),
                "that is the gradient of the last loss at phi: the steps on the other mini-batches are missing",
            )
            require(not close(result, sum(gradients)), "that is Reptile's gradient, the sum over all steps")
        one_too_many = _maml(loss, phi, [*batches, batches[-1]], alpha)
        require(
            not close(result, one_too_many),
            "you also took a step on the last mini-batch; it is only there to measure the loss",
        )
        require(
            close(result, expected),
            f"with k = {k} that is not the derivative, with respect to phi, of the last loss after {k - 1} steps",
        )


def _coefficients(shares):
    """Of AvgGrad, and of AvgGradInner divided by α."""
    return sum(shares), -sum(i * share for i, share in enumerate(shares))


@exercise
def shares_for(f):
    for k, first, second in ((2, 1.0, -1.0), (2, 0.0, -1.0), (4, 1.0, -2.5), (5, 0.0, 3.0), (3, 2.0, 0.0)):
        shares = f(k, first, second)
        goal = f"for k = {k} and the coefficients {first:g} and {second:g}"
        require(
            isinstance(shares, list | tuple | torch.Tensor) and len(shares) == k,
            f"{goal}: return a list of {k} shares",
        )
        shares = [float(share) for share in shares]
        is_first, is_second = _coefficients(shares)
        require(
            close(is_first, first),
            f"{goal} your shares {shares} give AvgGrad the coefficient {is_first:g}: they must add up to {first:g}",
        )
        require(
            second == 0 or not close(is_second, -second),
            f"{goal} your shares {shares} give AvgGradInner the wrong sign: each product comes with −α",
        )
        require(
            close(is_second, second),
            f"{goal} your shares {shares} give AvgGradInner / α the coefficient {is_second:g}",
        )


class _Watch(TorchDispatchMode):
    """Sees every tensor operation: how large its result is, and how often sinh or cosh is computed."""

    def __init__(self):
        super().__init__()
        self.largest = self.hyperbolic = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.hyperbolic += function.overloadpacket in (torch.ops.aten.sinh, torch.ops.aten.cosh)
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@exercise
def hessian_vector(f):
    def loss(w):
        return (w.sinh() * w.roll(1).cos()).sum()

    for weights in (2, 5, 300):
        w, v = torch.randn(2, weights, dtype=torch.float64)
        with _Watch() as seen:
            result = f(loss, w, v)
        expected = grad(lambda w, v=v: grad(loss)(w) @ v)(w)
        require(
            isinstance(result, torch.Tensor) and list(result.shape) == [weights],
            f"H v should be a tensor [{weights}]; a Hessian has more entries, a scalar product only one",
        )
        require(not close(result, grad(loss)(w) * v), "that is the gradient times v, not the Hessian")
        require(
            not close(result, grad(lambda u, w=w: grad(loss)(u) @ w)(w)), "that is the Hessian times w, not times v"
        )
        require(
            torch.allclose(result, expected, rtol=1e-4, atol=1e-5),  # finite differences may pass
            "that is not the Hessian times v",
        )
        # The loss itself needs vectors only, and a gradient computes sinh and cosh once or twice.
        require(
            weights < 300 or seen.largest < weights**2,
            f"the result is right, but a matrix of {weights} × {weights} was computed on the way: that is H itself",
        )
        require(
            weights < 300 or seen.hyperbolic < weights,
            f"the result is right, but with {weights} weights it took about {seen.hyperbolic // 2} passes through the "
            "loss: that computes H row by row",
        )
