"""What all fitted pieces share: they travel with a model as JSON, and fill columns of a matrix."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Matrix = NDArray[np.float32]


class FittedPart(BaseModel):
    """A fitted piece of what travels with a model, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")
