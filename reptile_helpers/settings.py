"""The settings of a run, and the paper's recipes."""

from dataclasses import asdict, dataclass, fields

from reptile_helpers.arguments import require_positive, require_whole
from reptile_helpers.learner import InnerLoop
from reptile_helpers.omniglot_files import DRAWINGS

DATA = ("omniglot", "generated", "sine")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that determines the result of a run, apart from the machine. Variants: `replace(PAPER_5WAY, seed=1)`.

    data: "omniglot", "generated" (characters) or "sine". ways: classes per task; None for sine waves. seed: of the
    weights, tasks and mini-batches. optimizer, lr, inner_batch, inner_steps: the inner loop of meta-training. shots:
    examples per class (points per wave) in a training task. meta_batch: tasks per meta-iteration. epsilon: the outer
    step size ε at the start, annealed linearly to 0. iterations: meta-iterations. test_batch, test_steps: the inner
    loop at test time.

    Raises ValueError for an invalid value.
    """

    data: str
    ways: int | None = None
    seed: int = 0
    optimizer: str
    lr: float
    inner_batch: int
    inner_steps: int
    shots: int
    meta_batch: int
    epsilon: float
    iterations: int
    test_batch: int
    test_steps: int

    def __post_init__(self) -> None:
        if self.data not in DATA:
            raise ValueError(f"data is {self.data!r}; it must be one of {', '.join(map(repr, DATA))}")
        if self.data == "sine" and self.ways is not None:
            raise ValueError(f"ways is {self.ways!r}; it must be None for sine waves, which have no classes")
        if self.data != "sine":
            require_whole(minimum=2, ways=self.ways)
        require_whole(minimum=0, seed=self.seed)
        counts = ("inner_batch", "inner_steps", "shots", "meta_batch", "iterations", "test_batch", "test_steps")
        require_whole(**{name: getattr(self, name) for name in counts})
        if self.data != "sine" and self.shots >= DRAWINGS:
            raise ValueError(f"shots is {self.shots}; it must be less than {DRAWINGS}, the drawings of a character")
        if self.seed >= 2**63:
            raise ValueError(f"seed is {self.seed}; it must be less than 2**63")
        require_positive(lr=self.lr, epsilon=self.epsilon)
        if self.epsilon > 1:
            raise ValueError(f"epsilon is {self.epsilon!r}; it must be a positive number of at most 1")
        _ = self.inner  # checks the optimizer's name

    @property
    def inner(self) -> InnerLoop:
        """The inner loop of meta-training."""
        return InnerLoop(self.optimizer, self.lr, self.inner_steps, self.inner_batch)

    @property
    def test_inner(self) -> InnerLoop:
        """The inner loop at test time. In the paper's Omniglot recipes: more steps, on smaller mini-batches."""
        return InnerLoop(self.optimizer, self.lr, self.test_steps, self.test_batch)

    def to_dict(self) -> dict:
        """Plain values (no NumPy numbers), for a checkpoint or JSON."""
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in asdict(self).items()}
        return plain | {"lr": float(self.lr), "epsilon": float(self.epsilon)}

    @classmethod
    def from_dict(cls, values: dict) -> "RunSettings":
        """The settings that `to_dict` gave. Raises ValueError if one is missing, unknown or invalid."""
        names = {field.name for field in fields(cls)}
        if values.keys() != names:
            unknown, missing = values.keys() - names, names - values.keys()
            told = [f"unknown: {', '.join(sorted(unknown))}"] * bool(unknown)
            told += [f"missing: {', '.join(sorted(missing))}"] * bool(missing)
            raise ValueError(f"these are settings of another version of reptile_helpers ({'; '.join(told)})")
        return cls(**values)

    def differences(self, other: "RunSettings") -> str:
        """Where two runs differ, as "lr 0.001 (now 0.01), seed 0 (now 1)"; empty if they do not."""
        pairs = ((name, value, getattr(other, name)) for name, value in self.to_dict().items())
        return ", ".join(f"{name} {old} (now {new})" for name, old, new in pairs if old != new)


# The authors' settings, from the README and the sine example of github.com/openai/supervised-reptile.
PAPER_5WAY = RunSettings(
    data="omniglot", ways=5, optimizer="adam", lr=1e-3, inner_batch=10, inner_steps=5, shots=10,
    meta_batch=5, epsilon=1.0, iterations=100_000, test_batch=5, test_steps=50,
)  # fmt: skip
PAPER_20WAY = RunSettings(
    data="omniglot", ways=20, optimizer="adam", lr=5e-4, inner_batch=20, inner_steps=10, shots=10,
    meta_batch=5, epsilon=1.0, iterations=200_000, test_batch=10, test_steps=50,
)  # fmt: skip
SINE_EXAMPLE = RunSettings(
    data="sine", optimizer="sgd", lr=0.02, inner_batch=10, inner_steps=5, shots=50,
    meta_batch=1, epsilon=0.1, iterations=30_000, test_batch=10, test_steps=32,
)  # fmt: skip
