"""Recipe and budget: how each cell trains its classifier.

Both are values: frozen, compared by content, and part of a cell's identity.
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

RECIPE_VERSION = 1  # raised whenever the same cell would give other numbers
Transform = dict[str, dict[str, Any]]


class Frozen(BaseModel):
    """A part of a grid: never changed, and without keys or numbers that nobody expects."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _none(value: Any) -> Any:
    return "none" if value is None else value


def _form(value: Any) -> str:
    return "[none]" if value == "none" else "[value]"


# `null` in a grid; a word here, as resolved grids leave nulls out
_None = Annotated[Literal["none"], Tag("[none]")]

_Whole = Annotated[int, Field(strict=True, ge=0, le=2**16), Tag("[value]")]

_Share = Annotated[float, Field(gt=0, lt=1), Tag("[value]")]

WholeOrNone = Annotated[_None | _Whole, Discriminator(_form), BeforeValidator(_none)]

ShareOrNone = Annotated[_None | _Share, Discriminator(_form), BeforeValidator(_none)]


class Plateau(Frozen):
    """Lower the learning rate where the validation loss stands still."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(strict=True, ge=1)] = 3  # evaluations


PlateauOrNone = Annotated[
    _None | Annotated[Plateau, Tag("[value]")], Discriminator(_form), BeforeValidator(_none)
]


class KerasRecipe(Frozen):
    """What `backend: keras` asks for beside the model; the defaults are the breast study's."""

    hidden: WholeOrNone = 1024  # width of the dense layer before the last
    # layers with a smaller index do not learn, but those named `batch_normalization*`
    freeze_below: WholeOrNone = "none"
    # of the moving statistics of batch normalizations; none: as the network has it, mostly .99 or
    # .999, which from scratch takes some thousand steps to forget where it began
    norm_momentum: ShareOrNone = "none"
    scaling: Literal["unit", "model"] = "unit"  # pixels / 255, or as the model's own weights want
    shift: Annotated[float, Field(ge=0, le=1)] = 0.1  # at most, as a share of the side
    flip: StrictBool = True
    plateau: PlateauOrNone = Plateau()
    restore_best: StrictBool = True  # false: the last weights are kept
    # training_fold: a tenth of the training images, which are trained on all the same
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
    """How a classifier is made and trained.

    The defaults are the fetal-brain study's; under `backend: keras` the breast study's.
    """

    backend: Literal["torch", "keras"] = "torch"
    model: str = "resnet18"
    pretrained: StrictBool = True
    weights: str | None = None  # local file of ImageNet weights, instead of the library's cache
    allow_scratch: StrictBool = False  # where no pretrained weights are found
    augmentation: Literal["none", "fastai"] | tuple[Transform, ...] = "fastai"
    batch_size: Annotated[int, Field(strict=True, ge=2, le=2**16)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3  # peak while frozen; half of it after
    lr_mult: Annotated[float, Field(ge=1)] = 100  # head's rate over the first layers'
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5  # before the last layer; half of it before
    keras: KerasRecipe | None = None  # of that backend; None under torch

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
            raise ValueError("`keras` belongs to `backend: keras`; drop it, or take that backend")
        return value

    @property
    def of_other_backend(self) -> tuple[str, ...]:
        """The fields that say nothing of how this recipe trains."""
        return _TORCH_ONLY if self.backend == "keras" else ("keras",)

    @property
    def draws_apart(self) -> bool:
        """Whether the augmentation is a pipeline of several steps, nested ones counted."""
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
                        f"each step of a pipeline is one `Name: {{options}}`, got {sorted(step)}"
                    )
        return value

    @model_validator(mode="after")
    def _weights_need_pretrained(self) -> Recipe:
        if self.weights is not None and not self.pretrained:
            raise ValueError("`weights` is given but `pretrained` is false; drop one of them")
        return self


class Budget(Frozen):
    """How long a trial trains.

    `epochs`: one frozen epoch, then up to `max`, stopped by `patience` on validation loss.
    `steps`: exactly `max` optimiser steps, evaluated `evaluations` times, no patience.
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
                    "`evaluations` belongs to `unit: steps`; epochs evaluate each epoch"
                )
            object.__setattr__(self, "patience", self.patience or 5)
        else:
            if self.patience is not None:
                raise ValueError("`patience` belongs to `unit: epochs`; steps always run to `max`")
            object.__setattr__(self, "evaluations", self.evaluations or min(21, self.max))
            if self.max < 2:
                raise ValueError("`max` must be at least 2 steps: one frozen, one not")
            if (self.evaluations or 0) > self.max:
                raise ValueError(f"`evaluations` must not exceed `max` ({self.max} steps)")
        return self
