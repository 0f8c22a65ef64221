"""What a client may ask for. Every object is closed: unknown fields and wrong types are refused.

``JobRequest`` is what arrives, with gaps; ``app.ml.plan`` fills the gaps against a table and gives
a ``JobSpec``, in which every field has its value. Names are torch's: losses, optimizers and
schedulers in snake case, layers as they are. Importable without torch.
"""

from app.ml.specs.base import Metadata, Name, Seed, Spec, Task
from app.ml.specs.data import PreprocessingSpec, SplitSpec
from app.ml.specs.job import (
    CheckpointSpec,
    EarlyStoppingSpec,
    JobRequest,
    JobSpec,
    LossUnit,
    field_names,
)
from app.ml.specs.layers import LAYERS, Layer, LayerSpec
from app.ml.specs.losses import (
    LOSSES_FOR_TASK,
    BCEWithLogitsSpec,
    CrossEntropySpec,
    HuberSpec,
    L1Spec,
    LossSpec,
    MSESpec,
    MultiMarginSpec,
    SmoothL1Spec,
)
from app.ml.specs.models import (
    Architecture,
    Inputs,
    LayerMismatch,
    LinearSpec,
    MLPSpec,
    ModelSpec,
    PretrainedSpec,
    SequentialSpec,
    Size,
    TabularSpec,
    architecture_of,
    completed,
    size_of,
)
from app.ml.specs.optimizers import AdamSpec, AdamWSpec, OptimizerSpec, SGDSpec
from app.ml.specs.schedulers import (
    CosineSpec,
    CyclicSpec,
    OneCycleSpec,
    ReduceOnPlateauSpec,
    SchedulerSpec,
    SchedulerSpecs,
)

__all__ = [
    "LAYERS",
    "LOSSES_FOR_TASK",
    "AdamSpec",
    "AdamWSpec",
    "Architecture",
    "BCEWithLogitsSpec",
    "CheckpointSpec",
    "CosineSpec",
    "CrossEntropySpec",
    "CyclicSpec",
    "EarlyStoppingSpec",
    "HuberSpec",
    "Inputs",
    "JobRequest",
    "JobSpec",
    "L1Spec",
    "Layer",
    "LayerMismatch",
    "LayerSpec",
    "LinearSpec",
    "LossSpec",
    "LossUnit",
    "MLPSpec",
    "MSESpec",
    "Metadata",
    "ModelSpec",
    "MultiMarginSpec",
    "Name",
    "OneCycleSpec",
    "OptimizerSpec",
    "PreprocessingSpec",
    "PretrainedSpec",
    "ReduceOnPlateauSpec",
    "SGDSpec",
    "SchedulerSpec",
    "SchedulerSpecs",
    "Seed",
    "SequentialSpec",
    "Size",
    "SmoothL1Spec",
    "Spec",
    "SplitSpec",
    "TabularSpec",
    "Task",
    "architecture_of",
    "completed",
    "field_names",
    "size_of",
]
