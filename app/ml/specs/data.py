"""Which rows are for what, and how columns become numbers."""

import json
from typing import Any, Literal

from pydantic import Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from app.ml.specs.base import ColumnName, Seed, Spec


class SplitSpec(Spec):
    """How rows are shared out; fractions sum to 1, a single one left out takes what remains."""

    train: float = Field(0.8, gt=0, le=1)
    validation: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)
    strategy: Literal["random", "stratified", "sequential", "column", "group", "time"] = "random"
    seed: Seed = 0
    column: ColumnName | None = Field(
        None,
        description="column: holds train, validation or test for each row; "
        "group: rows with the same value stay on one side; "
        "time: numbers or datetimes, of which the oldest train and the newest test",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_the_one_left_out(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        parts = ("train", "validation", "test")
        given = {name: data[name] for name in parts if isinstance(data.get(name), int | float)}
        missing = [name for name in parts if name not in data]
        rest = round(1 - sum(given.values()), 12)
        if len(given) == 2 and len(missing) == 1 and 0 <= rest <= 1:
            return {**data, missing[0]: rest}
        return data

    @model_serializer(mode="wrap")
    def _without_an_empty_column(self, dump: Any) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        if self.column is None:
            del fields["column"]
        return fields

    @model_validator(mode="after")
    def _has_a_column_where_it_needs_one(self) -> "SplitSpec":
        if (self.strategy in ("column", "group", "time")) != (self.column is not None):
            raise PydanticCustomError(
                "column",
                "a split by 'column', 'group' or 'time' wants the column's name in split.column, "
                "and the others want none",
            )
        return self

    def _that_sums_to_one(self) -> dict[str, float]:
        """Return two fractions that are valid, as near to what was given as that goes."""
        if "train" in self.model_fields_set:
            return {"train": self.train, "validation": round((1 - self.train) / 2, 6)}
        rest = round(1 - self.validation - self.test, 6)
        if rest <= 0:
            return {"train": 0.8, "validation": 0.1}
        part = "validation" if "validation" in self.model_fields_set else "test"
        return {"train": rest, part: getattr(self, part)}

    @model_validator(mode="after")
    def _sums_to_one(self) -> "SplitSpec":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise PydanticCustomError(
                "fractions",
                "train {train}, validation {validation} and test {test} sum to {total}, not 1 "
                "(0.8, 0.1 and 0.1 stand for those left out); give two, and the third takes what "
                "remains: {example}",
                {
                    "train": f"{self.train:g}",
                    "validation": f"{self.validation:g}",
                    "test": f"{self.test:g}",
                    "total": round(total, 9),
                    "example": json.dumps(self._that_sums_to_one()),
                },
            )
        return self


class PreprocessingSpec(Spec):
    """How columns become numbers; fitted on the training part only."""

    numbers: Literal["standard", "robust", "quantile", "none"] = "standard"
    categories: Literal["auto", "one_hot", "embedding"] = Field(
        "auto", description="auto: one-hot for up to 64 categories, an embedding for more"
    )
    missing: Literal["impute"] = "impute"
    target: Literal["standard", "none"] | None = Field(
        None, description="regression targets; left out: standard for regression"
    )
