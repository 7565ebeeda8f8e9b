"""What every configuration is: typed options, checked when read, and one message for all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imitation_refinement.errors import InputError

# scikit-learn takes 32 bits, NumPy's generators and torch take more.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class StageConfig(BaseModel):
    """A stage's options: typed, checked when read, unknown names and numbers that are not finite refused.

    Kubeflow Pipelines hands numbers on as doubles, so each number has bounds, and they lie within ±2⁵³.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def merged(low: Any, high: Any) -> Any:
    """``high`` over ``low``, section by section."""
    if not (isinstance(low, dict) and isinstance(high, dict)):
        return high
    return {**low, **{key: merged(low.get(key), value) for key, value in high.items()}}


def flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested options by their dotted names, as ``optimiser.epochs``."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def config_error(where: object, error: ValidationError) -> InputError:
    """A failed check of a configuration as one readable message: every field, what is wrong, what was given."""
    problems = [_problem(e["loc"], e["msg"].removeprefix("Value error, "), e["input"]) for e in error.errors()]
    return InputError(where, "; ".join(problems) + ".", "Correct these fields.")


def _problem(fields: Sequence[object], message: str, given: object) -> str:
    return f"{'.'.join(map(str, fields))}: {message} (given: {given!r})" if fields else message
