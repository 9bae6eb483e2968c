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


SEQUENCES = """
max_batch_size: 8
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  STRATEGY
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] }, CONTROL_OF_NUMBER
  ]
  STATE
}
"""


def one_by_one(folder, name, strategy, corrid=None):
    """OUTPUT is INPUT, with 1 added to a sequence's first and the sequence's number, where it is known, to its last."""
    nodes = [
        helper.make_node("Constant", [], ["zero64"], value_int=0),
        helper.make_node("Cast", ["CORRID" if corrid else "zero64"], ["number"], to=TensorProto.INT32),
        helper.make_node("Add", ["INPUT", "START"], ["with_start"]),
        helper.make_node("Mul", ["number", "END"], ["at_end"]),
        helper.make_node("Add", ["with_start", "at_end"], ["OUTPUT"]),
    ]
    write_sequences(folder, name, nodes, ["INPUT", "START", "END"], ["OUTPUT"], strategy, corrid)


def running_sums(folder, name, corrid):
    """OUTPUT is the sum of a sequence so far; its last has the sequence's number added."""
    nodes = [
        helper.make_node("Constant", [], ["one64"], value_int=1),
        helper.make_node("Cast", ["one64"], ["one"], to=TensorProto.INT32),
        helper.make_node("Sub", ["one", "START"], ["goes_on"]),
        helper.make_node("Mul", ["SUM", "goes_on"], ["before"]),
        helper.make_node("Add", ["INPUT", "before"], ["NEW_SUM"]),
        helper.make_node("Cast", ["CORRID"], ["number"], to=TensorProto.INT32),
        helper.make_node("Mul", ["number", "END"], ["at_end"]),
        helper.make_node("Add", ["NEW_SUM", "at_end"], ["OUTPUT"]),
    ]
    state = 'state [ { input_name: "SUM" output_name: "NEW_SUM" data_type: TYPE_INT32 dims: [ 1 ] } ]'
    inputs, outputs = ["INPUT", "START", "END", "SUM"], ["OUTPUT", "NEW_SUM"]
    write_sequences(folder, name, nodes, inputs, outputs, OLDEST, corrid, state)


OLDEST = "oldest { max_candidate_sequences: 8 }"


def write_sequences(folder, name, nodes, inputs, outputs, strategy, corrid, state=""):
    one = lambda name: (name, TensorProto.INT32, ["N", 1])
    numbers = [("CORRID", getattr(TensorProto, corrid), ["N", 1])] if corrid else []
    write(folder, name, nodes, [one(i) for i in inputs] + numbers, [one(o) for o in outputs])
    config = SEQUENCES.replace("STRATEGY", strategy).replace("STATE", state)
    control = f', {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_{corrid} }} ] }}'
    config = config.replace(", CONTROL_OF_NUMBER", control if corrid else "")
    (folder / name / "config.pbtxt").write_text(config)


COUNTER = """
sequence_batching {
  iterative_sequence: true
  oldest { max_candidate_sequences: 8 }
  state [
    { input_name: "n" output_name: "next" data_type: TYPE_INT64 dims: [ 1 ] },
    { input_name: "past" output_name: "history" data_type: TYPE_INT64 dims: [ -1 ]
      initial_state { name: "none" data_type: TYPE_INT64 dims: [ 0 ] zero_data: true } }
  ]
}
model_transaction_policy { decoupled: true }
input [ { name: "n" }, { name: "limit" } ]
output [ { name: "next" }, { name: "history" } ]
parameters [ { key: "ired.last" value { string_value: "is_last" } } ]
"""


def counter(folder, name):
    """Run again and again for one request: `next` is `n` and 1 more, and the last one is `limit`."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Add", ["n", "one"], ["next"]),
        helper.make_node("GreaterOrEqual", ["next", "limit"], ["is_last"]),
        helper.make_node("Concat", ["past", "next"], ["history"], axis=0),
    ]
    number = lambda name, size=1: (name, TensorProto.INT64, [size])
    inputs = [number("n"), number("limit"), number("past", "P")]
    outputs = [number("next"), ("is_last", TensorProto.BOOL, [1]), number("history", "H")]
    write(folder, name, nodes, inputs, outputs)
    (folder / name / "config.pbtxt").write_text(COUNTER)


REPEAT = """
sequence_batching {
  iterative_sequence: true
  oldest { max_candidate_sequences: 8 }
  state [ { input_name: "AT" output_name: "NEXT" data_type: TYPE_INT64 dims: [ 1 ]
            initial_state { name: "first" data_type: TYPE_INT64 dims: [ 1 ] zero_data: true } } ]
}
model_transaction_policy { decoupled: true }
input [ { name: "IN" }, { name: "DELAY" }, { name: "WAIT" } ]
output [ { name: "OUT" }, { name: "IDX" } ]
parameters [ { key: "ired.last" value { string_value: "IS_LAST" } } ]
"""


def repeat(folder, name):
    """Run again and again for one request: `OUT` is the next element of `IN`, and `IDX` which. It does not wait."""
    nodes = [
        helper.make_node("Gather", ["IN", "AT"], ["OUT"], axis=0),
        helper.make_node("Cast", ["AT"], ["IDX"], to=TensorProto.UINT32),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Add", ["AT", "one"], ["NEXT"]),
        helper.make_node("Shape", ["IN"], ["length"]),
        helper.make_node("GreaterOrEqual", ["NEXT", "length"], ["IS_LAST"]),
    ]
    inputs = [
        ("IN", TensorProto.INT32, ["N"]), ("DELAY", TensorProto.UINT32, ["N"]),
        ("WAIT", TensorProto.UINT32, [1]), ("AT", TensorProto.INT64, [1]),
    ]
    outputs = [
        ("OUT", TensorProto.INT32, [1]), ("IDX", TensorProto.UINT32, [1]),
        ("NEXT", TensorProto.INT64, [1]), ("IS_LAST", TensorProto.BOOL, [1]),
    ]
    write(folder, name, nodes, inputs, outputs)
    (folder / name / "config.pbtxt").write_text(REPEAT)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    add_sub(folder, "simple", TensorProto.INT32)
    add_sub(folder, "simple_int8", TensorProto.INT8)
    add_sub_strings(folder, "simple_string")
    one_by_one(folder, "simple_sequence", "direct { }")
    one_by_one(folder, "simple_dyna_sequence", OLDEST, "UINT64")
    running_sums(folder, "simple_string_dyna_sequence", "STRING")
    counter(folder, "counter")
    repeat(folder, "repeat_int32")
    identity(folder, "simple_identity", TensorProto.STRING, ["N", "M"])
    identity(folder, "custom_identity_int32", TensorProto.INT32, ["N", "M"])
    for dtype in ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]:
        identity(folder, f"identity_{dtype.lower()}", getattr(TensorProto, dtype), ["N"])
    for dtype, of in [("FP16", "FLOAT16"), ("BF16", "BFLOAT16"), ("FP32", "FLOAT"), ("FP64", "DOUBLE")]:
        identity(folder, f"identity_{dtype.lower()}", getattr(TensorProto, of), ["N"])
    identity(folder, "identity_scalar", TensorProto.FLOAT, [])
