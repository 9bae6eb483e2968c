"""Writes the models that clients of Triton come with requests for, as ONNX: `models.py FOLDER`."""

import pathlib
import sys

import onnx
from onnx import TensorProto, helper


def write(folder, name, nodes, inputs, outputs):
    value = lambda name, dtype, dims: helper.make_tensor_value_info(name, dtype, dims)
    graph = helper.make_graph(nodes, name, [value(*i) for i in inputs], [value(*o) for o in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    version = folder / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    onnx.save(model, version / "model.onnx")


def add_sub(folder, name, dtype):
    """OUTPUT0 is the sum of both inputs, OUTPUT1 their difference."""
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    both = lambda names: [(name, dtype, ["N", 16]) for name in names]
    write(folder, name, nodes, both(["INPUT0", "INPUT1"]), both(["OUTPUT0", "OUTPUT1"]))


def add_sub_strings(folder, name):
    """The same of numbers that are written as strings."""
    cast = lambda a, b, to: helper.make_node("Cast", [a], [b], to=to)
    nodes = [
        cast("INPUT0", "a", TensorProto.INT32),
        cast("INPUT1", "b", TensorProto.INT32),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        cast("sum", "OUTPUT0", TensorProto.STRING),
        cast("difference", "OUTPUT1", TensorProto.STRING),
    ]
    both = lambda names: [(name, TensorProto.STRING, ["N", 16]) for name in names]
    write(folder, name, nodes, both(["INPUT0", "INPUT1"]), both(["OUTPUT0", "OUTPUT1"]))


def identity(folder, name, dtype, dims):
    nodes = [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
    write(folder, name, nodes, [("INPUT0", dtype, dims)], [("OUTPUT0", dtype, dims)])


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    add_sub(folder, "simple", TensorProto.INT32)
    add_sub(folder, "simple_int8", TensorProto.INT8)
    add_sub_strings(folder, "simple_string")
    identity(folder, "simple_identity", TensorProto.STRING, ["N", "M"])
    identity(folder, "custom_identity_int32", TensorProto.INT32, ["N", "M"])
    for dtype in ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]:
        identity(folder, f"identity_{dtype.lower()}", getattr(TensorProto, dtype), ["N"])
    for dtype, of in [("FP16", "FLOAT16"), ("BF16", "BFLOAT16"), ("FP32", "FLOAT"), ("FP64", "DOUBLE")]:
        identity(folder, f"identity_{dtype.lower()}", getattr(TensorProto, of), ["N"])
    identity(folder, "identity_scalar", TensorProto.FLOAT, [])
