"""Writes the models that benchmarks run when they are given none: `models.py models|kernels FOLDER`.

Each gets a folder of its own with `model.onnx` and `default.inputs.npz`. Weights are random, of a fixed seed: what a
kernel takes does not depend on them.
"""

import json
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RANDOM = np.random.default_rng(1)


class Model:
    """A graph being written; methods give the name of what they add."""

    def __init__(self, *shape, name="x"):
        self.nodes, self.weights, self.feeds, self.inputs = [], [], {}, []
        self.input(name, *shape)

    def input(self, name, *shape):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.feeds[name] = RANDOM.standard_normal(shape, np.float32)
        return name

    def weight(self, *shape, scale=None):
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        values = RANDOM.standard_normal(shape, np.float32) * (scale or (1 / max(fan_in, 1)) ** 0.5)
        return self.constant(values.astype(np.float32))

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind, *operands, **attributes):
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [name], name, **attributes))
        return name

    def linear(self, x, k, n):
        return self.op("Add", self.op("MatMul", x, self.weight(k, n)), self.weight(n, scale=0.1))

    def conv(self, x, c, k, size=1, stride=1, groups=1):
        pad = size // 2
        return self.op("Conv", x, self.weight(k, c // groups, size, size), self.weight(k, scale=0.1),
                       kernel_shape=[size, size], strides=[stride, stride], pads=[pad] * 4, group=groups)

    def norm(self, x, n):
        return self.op("LayerNormalization", x, self.constant(np.ones(n, np.float32)),
                       self.constant(np.zeros(n, np.float32)), axis=-1)

    def heads(self, x, length, heads, width, perm):
        shape = self.constant(np.array([1, length, heads, width], np.int64))
        return self.op("Transpose", self.op("Reshape", x, shape), perm=perm)

    def attend(self, q, k, v, width):
        scores = self.op("Mul", self.op("MatMul", q, k), self.constant(np.float32(width ** -0.5)))
        return self.op("MatMul", self.op("Softmax", scores, axis=-1), v)

    def write(self, folder, name, output):
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, name, self.inputs, [result], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        model = onnx.shape_inference.infer_shapes(model)
        path = os.path.join(folder, name)
        os.makedirs(path, exist_ok=True)
        onnx.save(model, os.path.join(path, "model.onnx"))
        np.savez(os.path.join(path, "default.inputs.npz"), **self.feeds)


def models(folder):
    """One of each kind: small, convolutional, mobile, transformer."""
    m = Model(1, 256)
    x = m.op("Relu", m.linear("x", 256, 512))
    x = m.op("Relu", m.linear(x, 512, 512))
    m.write(folder, "mlp", m.linear(x, 512, 64))

    m = Model(1, 3, 112, 112)
    x = m.op("Relu", m.conv("x", 3, 64, 7, 2))
    width = 64
    for block, next_width in enumerate([64, 128, 256]):
        stride = 1 if block == 0 else 2
        y = m.op("Relu", m.conv(x, width, next_width, 3, stride))
        y = m.conv(y, next_width, next_width, 3)
        short = x if stride == 1 else m.conv(x, width, next_width, 1, stride)
        x, width = m.op("Relu", m.op("Add", y, short)), next_width
    x = m.op("Flatten", m.op("GlobalAveragePool", x))
    m.write(folder, "residual", m.linear(x, 256, 100))

    m = Model(1, 3, 112, 112)
    x, width = m.op("Relu", m.conv("x", 3, 16, 3, 2)), 16
    for next_width, stride in [(24, 2), (24, 1), (40, 2), (40, 1), (80, 2), (80, 1)]:
        y = m.op("Relu", m.conv(x, width, width * 4))
        y = m.op("Relu", m.conv(y, width * 4, width * 4, 3, stride, groups=width * 4))
        y = m.conv(y, width * 4, next_width)
        x, width = (m.op("Add", x, y) if stride == 1 else y), next_width
    x = m.op("Flatten", m.op("GlobalAveragePool", x))
    m.write(folder, "mobile", m.linear(x, 80, 100))

    length, width, heads = 64, 256, 8
    m = Model(1, length, width)
    x = "x"
    for _ in range(2):
        each = width // heads
        q = m.heads(m.linear(x, width, width), length, heads, each, [0, 2, 1, 3])
        k = m.heads(m.linear(x, width, width), length, heads, each, [0, 2, 3, 1])
        v = m.heads(m.linear(x, width, width), length, heads, each, [0, 2, 1, 3])
        y = m.op("Transpose", m.attend(q, k, v, each), perm=[0, 2, 1, 3])
        y = m.op("Reshape", y, m.constant(np.array([1, length, width], np.int64)))
        x = m.norm(m.op("Add", x, m.linear(y, width, width)), width)
        y = m.op("Relu", m.linear(x, width, 4 * width))
        x = m.norm(m.op("Add", x, m.linear(y, 4 * width, width)), width)
    m.write(folder, "encoder", x)

    m = Model(16)
    m.write(folder, "one_dispatch", m.op("Relu", "x"))

    samples = json.load(open(os.path.join(ROOT, "demo/digits/samples.json")))["samples"]
    images = np.array([sample["image"] for sample in samples], np.float32)[:, None]
    path = os.path.join(folder, "digits")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(ROOT, "demo/digits/digits.onnx"), "rb") as model:
        open(os.path.join(path, "model.onnx"), "wb").write(model.read())
    np.savez(os.path.join(path, "default.inputs.npz"), image=images)


def kernels(folder):
    """One operator each, in shapes that networks have."""
    for rows, k, n in [(1, 1024, 4096), (1, 768, 768), (8, 768, 768), (128, 768, 3072), (512, 512, 512), (1024, 1024, 1024)]:
        m = Model(rows, k)
        m.write(folder, f"matmul_{rows}x{k}x{n}", m.op("MatMul", "x", m.weight(k, n)))
    m = Model(12, 128, 64)
    m.write(folder, "matmul_12_of_128x64x128", m.op("MatMul", "x", m.input("y", 12, 64, 128)))
    for name, c, k, pixels, size, stride, groups in [
        ("conv_1x1_64_to_256_at_56", 64, 256, 56, 1, 1, 1),
        ("conv_1x1_512_to_128_at_28", 512, 128, 28, 1, 1, 1),
        ("conv_3x3_64_to_64_at_56", 64, 64, 56, 3, 1, 1),
        ("conv_3x3_256_to_256_at_14", 256, 256, 14, 3, 1, 1),
        ("conv_3x3_128_to_256_at_28_stride_2", 128, 256, 28, 3, 2, 1),
        ("conv_7x7_3_to_64_at_224_stride_2", 3, 64, 224, 7, 2, 1),
        ("depthwise_3x3_of_96_at_112", 96, 96, 112, 3, 1, 96),
        ("depthwise_5x5_of_240_at_28", 240, 240, 28, 5, 1, 240),
    ]:
        m = Model(1, c, pixels, pixels)
        m.write(folder, name, m.conv("x", c, k, size, stride, groups))
    for heads, rows, length, width in [(12, 128, 128, 64), (12, 512, 512, 64), (12, 1, 1024, 64)]:
        m = Model(1, heads, rows, width)
        k, v = m.input("k", 1, heads, width, length), m.input("v", 1, heads, length, width)
        m.write(folder, f"attention_{heads}_heads_{rows}_of_{length}_by_{width}", m.attend("x", k, v, width))
    m = Model(1024, 1024)
    m.write(folder, "softmax_1024x1024", m.op("Softmax", "x", axis=-1))
    m = Model(512, 768)
    m.write(folder, "layer_norm_512x768", m.norm("x", 768))
    m = Model(1024, 1024)
    m.write(folder, "reduce_sum_1024x1024", m.op("ReduceSum", "x", m.constant(np.array([1], np.int64)), keepdims=0))
    m = Model(1 << 20)
    m.write(folder, "add_1Mi", m.op("Add", "x", m.input("y", 1 << 20)))
    m = Model(1 << 20)
    m.write(folder, "sigmoid_1Mi", m.op("Sigmoid", "x"))
    m = Model(1 << 20)
    m.write(folder, "erf_1Mi", m.op("Erf", "x"))
    m = Model(1, 64, 64, 64)
    m.write(folder, "transpose_64x64x64", m.op("Transpose", "x", perm=[0, 2, 3, 1]))


if __name__ == "__main__":
    {"models": models, "kernels": kernels}[sys.argv[1]](sys.argv[2])
