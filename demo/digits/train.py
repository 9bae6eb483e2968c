"""Trains the digit classifier of the demo and writes digits.onnx and samples.json beside this file.

The data is scikit-learn's bundled copy of the UCI handwritten digits: 1 797 grey images of 8x8 pixels, values 0..16.
Every fifth image is held out; the samples come from those. Runs in about a minute on one core:

    pip install "jax[cpu]" scikit-learn onnx numpy
    python train.py
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

HERE = pathlib.Path(__file__).parent
CHANNELS = (16, 32)
CLASSES = 10


def initial_parameters(key):
    def he(key, shape, fan_in):
        return jax.random.normal(key, shape) * jnp.sqrt(2.0 / fan_in)

    k1, k2, k3 = jax.random.split(key, 3)
    first, second = CHANNELS
    return {
        "conv1.weight": he(k1, (first, 1, 3, 3), 9),
        "conv1.bias": jnp.zeros(first),
        "conv2.weight": he(k2, (second, first, 3, 3), first * 9),
        "conv2.bias": jnp.zeros(second),
        "head.weight": he(k3, (second * 4 * 4, CLASSES), second * 16),
        "head.bias": jnp.zeros(CLASSES),
    }


def logits(p, x):
    """x is [n, 1, 8, 8], scaled to 0..1."""

    def conv(x, name, stride):
        y = jax.lax.conv_general_dilated(x, p[name + ".weight"], (stride, stride), [(1, 1), (1, 1)])
        return jax.nn.relu(y + p[name + ".bias"][:, None, None])

    x = conv(conv(x, "conv1", 1), "conv2", 2)
    return x.reshape(x.shape[0], -1) @ p["head.weight"] + p["head.bias"]


def loss(p, x, y):
    decay = sum((p[k] ** 2).sum() for k in p if k.endswith("weight"))
    return -jax.nn.log_softmax(logits(p, x))[jnp.arange(len(y)), y].mean() + 1e-4 * decay


@jax.jit
def adam_step(p, m, v, t, x, y):
    g = jax.grad(loss)(p, x, y)
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    rate = 2e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), p, m, v), m, v


def train(x, y, epochs=60, batch=64):
    key = jax.random.PRNGKey(0)
    p = initial_parameters(key)
    m = v = jax.tree.map(jnp.zeros_like, p)
    t = 0
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(x))
        for start in range(0, len(x) - batch + 1, batch):
            rows = order[start : start + batch]
            t += 1
            p, m, v = adam_step(p, m, v, t, x[rows], y[rows])
    return p


def to_onnx(p):
    """The network with its input scaling in front and a softmax behind: pixels in, probabilities out."""
    initializers = [numpy_helper.from_array(np.asarray(w, np.float32), name) for name, w in p.items()]
    initializers.append(numpy_helper.from_array(np.float32(16.0), "white"))
    conv = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    nodes = [
        helper.make_node("Div", ["image", "white"], ["scaled"], "scale"),
        helper.make_node("Conv", ["scaled", "conv1.weight", "conv1.bias"], ["c1"], "conv1", **conv),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "conv2.weight", "conv2.bias"], ["c2"], "conv2", strides=[2, 2], **conv),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Flatten", ["r2"], ["flat"], "flatten", axis=1),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    data = load_digits()
    x = data.images.astype(np.float32)[:, None]
    y = data.target
    held_out = np.arange(len(x)) % 5 == 4
    p = train(x[~held_out] / 16, y[~held_out])
    right = np.asarray(logits(p, x[held_out] / 16)).argmax(1) == y[held_out]
    print(f"held-out accuracy: {right.mean():.4f} ({right.sum()} of {right.size})")

    onnx.save(to_onnx(p), HERE / "digits.onnx")
    indices = np.flatnonzero(held_out)
    samples = [next(i for i in indices if y[i] == digit) for digit in range(CLASSES)]
    record = {
        "source": "UCI handwritten digits, as bundled with scikit-learn; none was trained on",
        "accuracy": float(right.mean()),
        "samples": [
            {"index": int(i), "label": int(y[i]), "image": data.images[i].astype(int).tolist()} for i in samples
        ],
    }
    (HERE / "samples.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
