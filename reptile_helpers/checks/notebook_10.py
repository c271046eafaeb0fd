"""Checks for the exercises of notebook 10."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require

# Notebook 10: the wrong line of each program, counted from its `def` as 1. A test compares them with the repairs.
GUILTY = {
    "program_1": 4, "program_2": 4, "program_3": 7, "program_4": 4, "program_5": 10, "program_6": 4, "program_7": 4,
    "program_8": 9, "program_9": 2,
}  # fmt: skip


def guilty(program, line):
    if line is None:
        print("… not attempted yet: set line to a number")
    elif line == GUILTY[program]:
        print(f"✓ line {line} it is")
    else:
        print(f"✗ not yet: line {line} is as it should be")


@exercise
def outer_update(f):
    for epsilon in (0.0, 0.25, 1.0):
        for tasks in ([1.0], [1.0, -2.0, 4.0]):
            model = torch.nn.Linear(3, 2).double()
            phi = [p.detach().clone() for p in model.parameters()]
            began = []

            def practise(network, task, began=began):
                began.append([p.detach().clone() for p in network.parameters()])
                with torch.no_grad():
                    for p in network.parameters():
                        p += task * (1 + p)

            result = f(model, practise, tasks, epsilon)
            require(result is model, "return the model that was given, with its parameters changed")
            require(len(began) == len(tasks), f"practise should be called once for each of the {len(tasks)} tasks")
            require(
                all(close(a, b) for begin in began for a, b in zip(begin, phi, strict=True)),
                "a task did not start from phi: is the network of the task before still in use?",
            )
            mean = sum(tasks) / len(tasks)
            for p, old in zip(model.parameters(), phi, strict=True):
                if epsilon == 0:
                    require(close(p.detach(), old), "with epsilon = 0 the model must stay where it is, and it moved")
                require(
                    close(p.detach(), old + epsilon * mean * (1 + old)),
                    f"with epsilon = {epsilon} and {len(tasks)} task(s) phi is not where it should be",
                )


@exercise
def has_leak(f):
    for ways, shots, queries in ((5, 1, 1), (3, 4, 2)):
        for _ in range(20):
            classes = torch.randperm(30)[:ways]
            both = torch.stack([torch.randperm(20)[: shots + queries] for _ in range(ways)])
            both[1] = both[0]  # the same numbers for two different characters
            support, query = both[:, :shots], both[:, shots:]
            require(
                not f(classes, support, query),
                "a task without a leak is accused: the same number of drawing, but of different characters",
            )
            twice = classes.clone()
            twice[-1] = twice[0]
            require(f(twice, support, query), f"a character under two labels was not noticed: {twice.tolist()}")
            leaking = query.clone()
            leaking[-1, 0] = support[-1, 0]
            require(f(classes, support, leaking), "a drawing in the support and the query set was not noticed")
            if shots > 1:
                repeated = support.clone()
                repeated[0, 1] = repeated[0, 0]
                require(f(classes, repeated, query), "a drawing that is twice in the support set was not noticed")


@exercise
def untouched(f):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    x = torch.randn(4, 2)
    alive, half = model(x).square().mean(), model[0](x).square().mean()
    dead = torch.tensor(alive.item(), requires_grad=False)
    marked = torch.tensor(alive.item(), requires_grad=True) * 2
    names = [name for name, _ in model.named_parameters()]
    for loss, expected in ((alive, []), (half, names[2:]), (dead, names), (marked, names)):
        result = f(loss, model)
        require(isinstance(result, list), "return a list of names")
        require(
            sorted(result) == sorted(expected), f"a loss that leaves {expected or 'nothing'} untouched gave {result}"
        )
        require(all(p.grad is None for p in model.parameters()), "a .grad has changed; use torch.autograd.grad")
    require(alive.grad_fn is not None and f(alive, model) == [], "after the first call the loss cannot be used again")
