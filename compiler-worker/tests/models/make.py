"""Makes the models beside this file: `pip install onnx numpy`, then run it.

dense.onnx: y[batch, 2] = relu(x[batch, 3] . w + b), weights inside.
external.onnx: the same, with `w` in external.bin.
"""

import os

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
W = numpy.array([[1, -1], [2, -2], [3, 0.5]], numpy.float32)
B = numpy.array([0.5, 1], numpy.float32)


def dense(w):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], "product"),
        helper.make_node("Add", ["xw", "b"], ["sum"], "bias"),
        helper.make_node("Relu", ["sum"], ["y"], "activation"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])]
    weights = [w, numpy_helper.from_array(B, "b")]
    graph = helper.make_graph(nodes, "dense", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model) if not w.external_data else None
    return model


def external():
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=W.shape)
    w.data_location = TensorProto.EXTERNAL
    for key, value in [("location", "external.bin"), ("offset", "0"), ("length", str(W.nbytes))]:
        w.external_data.add(key=key, value=value)
    return w


if __name__ == "__main__":
    onnx.save(dense(numpy_helper.from_array(W, "w")), os.path.join(HERE, "dense.onnx"))
    onnx.save(dense(external()), os.path.join(HERE, "external.onnx"))
    with open(os.path.join(HERE, "external.bin"), "wb") as file:
        file.write(W.tobytes())
