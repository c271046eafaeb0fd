"""Checks for the riddles and exercises of notebook 10."""

import copy
from typing import NamedTuple

import torch

from reptile_helpers.checks.exercise import close, exercise, require


class _Riddle(NamedTuple):
    """A program with a bug. Lines count from its `def` as 1; each comes with a sentence for a reader who names it."""

    length: int
    guilty: dict[int, str]  # the line that the notebook repairs comes first, then others that could be repaired instead
    innocent: dict[int, str]


RIDDLES = {
    1: _Riddle(
        8,
        {
            4: "`before` is not a copy: it refers to the weights that practise is about to change.",
            5: "Practising on a deep copy would leave `before` alone (line 6 must then read that copy). "
            "The shortest repair is in line 4.",
        },
        {
            2: "ε runs through all its values; print them.",
            3: "That is a comment. Is it true?",
            6: "`after` may refer to the live weights, since they are used at once. May `before`?",
            7: "The formula is right. Print before[name] − after[name] for one name.",
            8: "load_state_dict copies what it is given. What is it given?",
        },
    ),
    2: _Riddle(
        11,
        {4: "copy.copy copies the module, but not its parameters: both share the same tensors."},
        {
            3: "The waves are what they should be. Where does the second one start?",
            5: "The optimizer changes the parameters of `learner`, as it should. Who else owns them?",
            6: "32 steps are intended.",
            9: "step changes the parameters of `learner`, as it should. Who else owns them?",
            10: "The error is measured on the query set, as it should be.",
        },
    ),
    3: _Riddle(
        7,
        {6: "A phase shifts a wave. What multiplies x is a frequency."},
        {
            3: "The paper draws amplitudes from 0.1 to 5, and so does this line.",
            4: "The number is drawn as it should be, from 0 to 2π. How is it used?",
            5: "The 50 points lie between −5 and 5, as they should.",
            7: "That is your own outer step, and it has been checked.",
        },
    ),
    4: _Riddle(
        6,
        {
            2: "All four workers start from the same seed, so they draw the same waves forever.",
            4: "Drawing all four tasks from one generator would be a repair, too. The bug was planted in line 2.",
        },
        {
            3: "The number of meta-iterations is intended.",
            5: "That is your own outer step, and it has been checked.",
            6: "Returning the last meta-batch does no harm.",
        },
    ),
    5: _Riddle(
        11,
        {5: "The optimizer holds the parameters of `model`, but the gradients arrive at those of `learner`."},
        {
            4: "A deep copy for each wave is right: that was the repair of bug 2.",
            7: "zero_grad clears the gradients of the parameters that the optimizer holds. Which are these?",
            8: "The loss of `learner` is the right one. Which network takes the step?",
            9: "step changes the parameters that the optimizer holds. Which are these?",
            10: "The error is measured on the query set, as it should be.",
        },
    ),
    6: _Riddle(
        6,
        {4: "argmax(0) chooses the best query for each class, and not the best class for each query."},
        {
            3: "Logits and labels of the same task are paired correctly.",
            5: "Comparing with the labels is right. What does `predicted` contain?",
            6: "One share for each task is right.",
        },
    ),
    7: _Riddle(
        9,
        {4: "choice draws with replacement unless you say replace=False."},
        {
            5: "permuted shuffles each row on its own, so no drawing occurs twice in a row.",
            6: "Each row takes two drawings of one character. Which characters are they?",
            7: "One support and one query drawing for each label is right. What do the labels stand for?",
        },
    ),
    8: _Riddle(
        11,
        {
            9: "eval() makes batch norm use its running statistics, and these are not worth using here.",
            2: "Giving the copy better running statistics, for example with momentum=None, would be a repair. "
            "Most people would change line 9.",
            4: "In train(), batch norm collects its statistics, and ten batches with momentum 0.1 are too few. "
            "Setting momentum=None here would be a repair. Most people would change line 9.",
        },
        {
            3: "A fresh Adam without second moments costs a few points (notebook 07), but not more than 70.",
            5: "More steps would help the running statistics, but ten steps are enough for the weights.",
            7: "The network learns from the support set, as it should.",
            11: "The queries would be classified correctly if batch norm let them.",
        },
    ),
    9: _Riddle(
        9,
        {
            2: "It splits the drawings of every character, so both parts contain the same characters.",
            9: "Returning characters that were kept out from the beginning would be a repair, too. "
            "The bug was planted in line 2.",
        },
        {
            3: "The seed makes the result repeatable and does no other harm.",
            5: "Ten shots during meta-training are what the paper uses. Shots of which characters?",
            6: "The inner loop is a usual one.",
            7: "The run is short, but long enough to learn something.",
        },
    ),
}


def guilty(bug, line):
    """Is `line` the wrong one in the program of this bug? Prints a sentence that helps, whatever the answer."""
    riddle = RIDDLES[bug]
    if line is None:
        print("… not attempted yet: set line to a number")
    elif type(line) is not int or not 1 <= line <= riddle.length:
        print(f"✗ not yet: line should be a whole number from 1 to {riddle.length}, counted from `def` as 1")
    elif line in riddle.guilty:
        print(f"✓ line {line}. {riddle.guilty[line]}")
    else:
        print(f"✗ not yet: line {line} is as it should be. {riddle.innocent.get(line, '')}".rstrip())


def _outer_update(model, practise, tasks, epsilon):
    learners = [copy.deepcopy(model) for _ in tasks]
    for learner, task in zip(learners, tasks, strict=True):
        practise(learner, task)
    with torch.no_grad():
        for phi, *thetas in zip(model.parameters(), *(learner.parameters() for learner in learners), strict=True):
            phi += epsilon * (sum(thetas) / len(thetas) - phi)
    return model


@exercise(reference=_outer_update)
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
                "a task without a leak is accused: the same drawing number, but different characters",
            )
            twice = classes.clone()
            twice[-1] = twice[0]
            require(
                f(twice, support, query),
                f"a character under two labels was not noticed: {twice.tolist()} "
                "(a set of tensors tells equal numbers apart; .tolist() makes them numbers)",
            )
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
    still = (0 * model(x)).sum()  # connected, with a gradient of zero
    dead = torch.tensor(alive.item(), requires_grad=False)
    marked = torch.tensor(alive.item(), requires_grad=True) * 2
    names = [name for name, _ in model.named_parameters()]
    for loss, expected in ((alive, []), (half, names[2:]), (dead, names), (marked, names), (still, [])):
        result = f(loss, model)
        require(isinstance(result, list), "return a list of names")
        require(
            loss is not still or not result,
            "a parameter whose gradient is zero is connected all the same: think of a ReLU that is off",
        )
        require(
            sorted(result) == sorted(expected), f"a loss that leaves {expected or 'nothing'} untouched gave {result}"
        )
        require(all(p.grad is None for p in model.parameters()), "a .grad has changed; use torch.autograd.grad")
    require(alive.grad_fn is not None and f(alive, model) == [], "after the first call the loss cannot be used again")
