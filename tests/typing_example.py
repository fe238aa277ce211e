"""What a type checker says of code that uses bn_keras; `test_typing.py` compares it with the comments."""

import functools

import keras

from bn_keras import BatchNorm, GroupNorm, InstanceNorm, SyncBatchNorm, surgery
from bn_keras.export import export
from bn_keras.models import build, norm

BatchNorm(axis=[1, 2], momentum=None, activation="relu", name="norm", dtype="float32")
BatchNorm(momentum="x")  # error: arg-type
BatchNorm(fused="yes")  # error: arg-type
SyncBatchNorm(group_size=1.5)  # error: arg-type
GroupNorm(8, axis=[1])  # error: arg-type
InstanceNorm(epsilon=None)  # error: arg-type
norm(("group", {"groups": 8}), axis=1)
norm(8)  # error: arg-type

model: keras.Model = build("resnet20", norm=functools.partial(BatchNorm, momentum=0.9), depth=3)
build("resnet20", wdith=2.0)  # an option of a preset may have any name, so `build` checks it when it runs
surgery.fold(model, strict=True, report=None)
surgery.fold(model, sctrict=True)  # error: call-arg
surgery.recalibrate(model, [], method="mean")  # error: arg-type
surgery.report(model).rows[0].outcome.upper()
lines = surgery.report(model).lines  # error: attr-defined
export(model, "out", format="onnx", opset=17)
export(model, "out", format="pt")  # error: arg-type
export(model, "out").seconds + "s"  # error: operator
