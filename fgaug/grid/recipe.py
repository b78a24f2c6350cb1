"""Recipe and budget: how a cell trains its classifier.

Both are frozen values, compared by content, and part of a cell's identity.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

RECIPE_VERSION = 1  # increased whenever the same cell would produce different numbers
Transform = dict[str, dict[str, Any]]


class Frozen(BaseModel):
    """Base of the parts of a grid: immutable, without unknown keys, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _none(value: Any) -> Any:
    return "none" if value is None else value


def _form(value: Any) -> str:
    return "[none]" if value == "none" else "[value]"


# `null` in a grid becomes "none", because resolved grids omit nulls
_None = Annotated[Literal["none"], Tag("[none]")]
_Whole = Annotated[int, Field(strict=True, ge=0, le=2**16), Tag("[value]")]
_Share = Annotated[float, Field(gt=0, lt=1), Tag("[value]")]
WholeOrNone = Annotated[_None | _Whole, Discriminator(_form), BeforeValidator(_none)]
ShareOrNone = Annotated[_None | _Share, Discriminator(_form), BeforeValidator(_none)]


class Plateau(Frozen):
    """Lowers the learning rate when the validation loss stops improving."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(strict=True, ge=1)] = 3  # evaluations


PlateauOrNone = Annotated[
    _None | Annotated[Plateau, Tag("[value]")], Discriminator(_form), BeforeValidator(_none)
]


class KerasRecipe(Frozen):
    """Settings of `backend: keras`; the defaults are the breast study's."""

    hidden: WholeOrNone = 1024  # width of the hidden dense layer
    # layers with a smaller index are frozen, except those named `batch_normalization*`
    freeze_below: WholeOrNone = "none"
    # momentum of the batch norm statistics; none: the network's own, mostly .99 or .999, which
    # needs thousands of steps to converge when training from scratch
    norm_momentum: ShareOrNone = "none"
    scaling: Literal["unit", "model"] = "unit"  # pixels / 255, or the model's own preprocessing
    shift: Annotated[float, Field(ge=0, le=1)] = 0.1  # maximum shift, as a fraction of the side
    flip: StrictBool = True
    plateau: PlateauOrNone = Plateau()
    restore_best: StrictBool = True  # false: keep the last weights
    # training_fold: a tenth of the training images, which still are trained on
    validate_on: Literal["held_out", "training_fold"] = "held_out"

    @field_validator("hidden")
    @classmethod
    def _some_width(cls, value: object) -> object:
        if value == 0:
            raise ValueError("must be at least 1, or `none`")
        return value


_TORCH_ONLY = ("augmentation", "lr_mult", "weight_decay", "dropout")
_KERAS_DEFAULTS = {
    "model": "InceptionResNetV2",
    "batch_size": 32,
    "learning_rate": 1e-3,
}


class Recipe(Frozen):
    """How a classifier is built and trained.

    The defaults are the fetal-brain study's, with `backend: keras` the breast study's.
    """

    backend: Literal["torch", "keras"] = "torch"
    model: str = "resnet18"
    pretrained: StrictBool = True
    weights: str | None = None  # local file of pretrained weights, instead of the library's cache
    allow_scratch: StrictBool = False  # if no pretrained weights are found
    augmentation: Literal["none", "fastai"] | tuple[Transform, ...] = "fastai"
    batch_size: Annotated[int, Field(strict=True, ge=2, le=2**16)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3  # peak while frozen; half of it afterwards
    # learning rate of the head over that of the first layers
    lr_mult: Annotated[float, Field(ge=1)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    # of products and convolutions; auto: the faster one, chosen once a run, see study.precision
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    # before the last layer; half before the hidden layer
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    keras: KerasRecipe | None = None  # settings of that backend; None with torch

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_keras(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("backend") != "keras":
            return value
        given = {**_KERAS_DEFAULTS, **value}
        return {**given, "keras": {} if given.get("keras") is None else given["keras"]}

    @field_validator(*_TORCH_ONLY)
    @classmethod
    def _of_torch(cls, value: object, info: ValidationInfo) -> object:
        default = cls.model_fields[str(info.field_name)].default
        if info.data.get("backend") == "keras" and value != default:
            raise ValueError(f"`{info.field_name}` belongs to `backend: torch`; drop it")
        return value

    @field_validator("keras")
    @classmethod
    def _of_keras(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("backend") == "torch" and value is not None:
            raise ValueError("`keras` belongs to `backend: keras`; drop it, or set that backend")
        return value

    @property
    def of_other_backend(self) -> tuple[str, ...]:
        """The fields that this recipe's backend ignores."""
        return _TORCH_ONLY if self.backend == "keras" else ("keras",)

    @property
    def draws_apart(self) -> bool:
        """Whether the augmentation is a pipeline of several steps, including nested ones."""
        if not isinstance(self.augmentation, tuple):
            return False
        options = [given for step in self.augmentation for given in step.values()]
        return len(options) > 1 or any("transforms" in o or "first" in o for o in options)

    @field_validator("augmentation")
    @classmethod
    def _one_name_each(cls, value: object) -> object:
        if isinstance(value, tuple):
            for step in value:
                if len(step) != 1:
                    raise ValueError(
                        f"each pipeline step must be one `Name: {{options}}`, got {sorted(step)}"
                    )
        return value

    @model_validator(mode="after")
    def _weights_need_pretrained(self) -> Recipe:
        if self.weights is not None and not self.pretrained:
            raise ValueError("`weights` is given, but `pretrained` is false; drop one of them")
        return self


class Budget(Frozen):
    """How long a trial trains.

    `epochs`: one epoch with a frozen body, then up to `max` epochs with early stopping after
    `patience` epochs without a better validation loss.
    `steps`: exactly `max` optimiser steps with `evaluations` evaluations, no early stopping.
    """

    unit: Literal["epochs", "steps"] = "epochs"
    max: Annotated[int, Field(strict=True, ge=1)] = 20
    patience: Annotated[int, Field(strict=True, ge=1)] | None = None
    evaluations: Annotated[int, Field(strict=True, ge=1)] | None = None

    @model_validator(mode="after")
    def _fields_of_the_unit(self) -> Budget:
        if self.unit == "epochs":
            if self.evaluations is not None:
                raise ValueError(
                    "`evaluations` belongs to `unit: steps`; epochs are evaluated one by one"
                )
            object.__setattr__(self, "patience", self.patience or 5)
        else:
            if self.patience is not None:
                raise ValueError("`patience` belongs to `unit: epochs`; steps always run to `max`")
            object.__setattr__(self, "evaluations", self.evaluations or min(21, self.max))
            if self.max < 2:
                raise ValueError(
                    "`max` must be at least 2 steps, one with a frozen body and one without"
                )
            if (self.evaluations or 0) > self.max:
                raise ValueError(f"`evaluations` must not exceed `max` ({self.max} steps)")
        return self
