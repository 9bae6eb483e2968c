"""Writes tests/ops/*.toml: what numpy, scipy and ONNX's reference evaluator give for single operations.

Run from this folder with numpy, scipy and onnx installed: `python ops.py`. The numbers are theirs; the text of the
operation is ours.
"""

import os

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import scipy
import scipy.special as special

ORACLE = f"numpy {np.__version__}, scipy {scipy.__version__}, ONNX reference evaluator {onnx.__version__}"
NAMES = {
    "bool": "bool", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16",
    "uint32": "u32", "uint64": "u64", "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64",
    "int4": "i4", "uint4": "u4",
}
BF16 = ml_dtypes.bfloat16
I4 = ml_dtypes.int4


def text(array):
    array = np.asarray(array)
    name = NAMES[array.dtype.name]
    flat = array.reshape(-1)
    if name == "bool":
        words = ["true" if v else "false" for v in flat]
    elif name in ("f16", "bf16"):
        words = [repr(float(v)) for v in flat]
    elif name in ("f32", "f64"):
        words = [str(v) for v in flat]
    else:
        words = [str(int(v)) for v in flat]
    return f"{name}{list(array.shape)} = {' '.join(words)}"


def onnx_run(op, inputs, opset=21, **attributes):
    names = [f"x{i}" for i in range(len(inputs))]
    kinds = [onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    node = onnx.helper.make_node(op, names, ["y"], **attributes)
    infos = [onnx.helper.make_tensor_value_info(n, k, a.shape) for n, k, a in zip(names, kinds, inputs)]
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)
    graph = onnx.helper.make_graph([node], "g", infos, [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return onnx.reference.ReferenceEvaluator(model).run(None, dict(zip(names, inputs)))[0]


FAMILIES = {}


def case(family, name, op, inputs, expected, within=None):
    FAMILIES.setdefault(family, []).append((name, op, [np.asarray(a) for a in inputs], np.asarray(expected), within))


rng = np.random.default_rng(7)


def normal(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def integers(*shape, low=-100, high=100, dtype=np.int8):
    return rng.integers(low, high, size=shape).astype(dtype)


def elementwise():
    x = np.array([-np.inf, -4.5, -1, -0.5, -0.0, 0, 0.3, 1, 2.5, 3.5, 40, np.inf, np.nan], np.float32)
    wide = x.astype(np.float64)
    functions = {
        "abs": np.abs, "neg": np.negative, "sign": np.sign, "reciprocal": np.reciprocal, "sqrt": np.sqrt,
        "rsqrt": lambda v: 1 / np.sqrt(v), "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos, "tan": np.tan,
        "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
        "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "erf": special.erf, "sigmoid": special.expit,
        "floor": np.floor, "ceil": np.ceil, "round": np.rint,
    }
    for name, f in functions.items():
        case("elementwise", name, f"{name} %0 : f32[13]", [x], f(wide).astype(np.float32), 1.2e-7)
    e = np.linspace(-6.5, 6.5, 27)
    case("elementwise", "erf_of_f64", "erf %0 : f64[27]", [e], special.erf(e), 4e-16)
    case("elementwise", "is_nan", "is_nan %0 : bool[13]", [x], np.isnan(x))
    case("elementwise", "is_inf", "is_inf %0 : bool[13]", [x], np.isinf(x))
    b = np.array([True, False])
    case("elementwise", "not", "not %0 : bool[2]", [b], ~b)
    i = np.array([-128, -7, 0, 5, 127], np.int8)
    for name, f in {"abs": np.abs, "neg": np.negative, "sign": np.sign, "bit_not": np.invert}.items():
        case("elementwise", f"{name}_wraps_i8", f"{name} %0 : i8[5]", [i], f(i))
    u = np.array([0, 1, 2**64 - 1], np.uint64)
    case("elementwise", "neg_wraps_u64", "neg %0 : u64[3]", [u], np.negative(u))

    l = np.array([7, -7, 7, -7, 0.5, np.nan, 1, 3, 0], np.float32)
    r = np.array([3, 3, -3, -3, 2, 1, np.nan, 0, 0], np.float32)
    floats = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "rem": np.fmod, "mod": np.mod,
        "pow": np.power, "max": np.maximum, "min": np.minimum,
    }
    for name, f in floats.items():
        want = f(l.astype(np.float64), r.astype(np.float64)).astype(np.float32)
        case("elementwise", name, f"{name} %0, %1 : f32[9]", [l, r], want, 1.2e-7)
    h, g = np.array([1, 2049, 60000], np.float16), np.array([2**-11, 1, 10000], np.float16)
    case("elementwise", "add_rounds_f16_once", "add %0, %1 : f16[3]", [h, g], h + g)
    w, v = np.array([1, 257], BF16), np.array([2**-9, 0.5], BF16)
    case("elementwise", "add_rounds_bf16_once", "add %0, %1 : bf16[2]", [w, v], w + v)

    l, r = np.array([100, -100, 7, -7, 7, -7], np.int8), np.array([100, 100, 2, 2, -2, -2], np.int8)
    ints = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "rem": np.fmod, "mod": np.mod, "max": np.maximum,
        "min": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
        "div": lambda a, b: np.trunc(a / b).astype(np.int8),
    }
    for name, f in ints.items():
        case("elementwise", f"{name}_of_i8", f"{name} %0, %1 : i8[6]", [l, r], f(l, r))
    l, r = np.array([3, -2, 10, 0], np.int32), np.array([4, 31, 11, 0], np.int32)
    case("elementwise", "pow_of_i32_wraps", "pow %0, %1 : i32[4]", [l, r], np.power(l, r))
    l, r = np.array([2**63, 2**64 - 1], np.uint64), np.array([3, 2], np.uint64)
    for name, f in {"div": np.floor_divide, "mul": np.multiply, "max": np.maximum, "shift_right": np.right_shift}.items():
        case("elementwise", f"{name}_of_u64", f"{name} %0, %1 : u64[2]", [l, r], f(l, r))
    l, r = np.array([-100, 100, 1], np.int16), np.array([3, 3, 15], np.int16)
    case("elementwise", "shift_right_keeps_the_sign", "shift_right %0, %1 : i16[3]", [l, r], np.right_shift(l, r))
    case("elementwise", "shift_left_of_i16", "shift_left %0, %1 : i16[3]", [l, r], np.left_shift(l, r))
    l, r = np.array([True, True, False, False]), np.array([True, False, True, False])
    for name, f in {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "eq": np.equal}.items():
        case("elementwise", f"{name}_of_bool", f"{name} %0, %1 : bool[4]", [l, r], f(l, r))

    l, r = np.array([1, 2, np.nan, np.inf], np.float32), np.array([2, 2, np.nan, 1], np.float32)
    compares = {
        "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
        "ge": np.greater_equal,
    }
    for name, f in compares.items():
        case("elementwise", name, f"{name} %0, %1 : bool[4]", [l, r], f(l, r))
    c = np.array([[True, False], [False, True]])
    a, b = normal(2, 2), normal(2, 2)
    case("elementwise", "select", "select %0, %1, %2 : f32[2, 2]", [c, a, b], np.where(c, a, b))

    x = np.array([0.5, -1.75, 3e38, 70000, 65519.9], np.float32)
    case("elementwise", "cast_f32_to_f16", "cast %0 : f16[5]", [x], x.astype(np.float16))
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.4e38], np.float32)
    case("elementwise", "cast_f32_to_bf16", "cast %0 : bf16[4]", [x], x.astype(BF16))
    x = np.array([2**24 + 1, 2**53 + 1, -(2**62) - 1, 5], np.int64)
    case("elementwise", "cast_i64_to_f32", "cast %0 : f32[4]", [x], x.astype(np.float32))
    x = np.array([-1.9, -0.2, 0.9, 126.7], np.float64)
    case("elementwise", "cast_f64_to_i8_truncates", "cast %0 : i8[4]", [x], x.astype(np.int8))
    x = np.array([0, -0.0, 0.1, np.nan], np.float32)
    case("elementwise", "cast_f32_to_bool", "cast %0 : bool[4]", [x], x.astype(bool))
    x = np.array([300, -1, 128], np.int32)
    case("elementwise", "cast_i32_to_u8_wraps", "cast %0 : u8[3]", [x], x.astype(np.uint8))
    case("elementwise", "cast_of_nothing", "cast %0 : i64[0, 3]", [np.zeros((0, 3), np.float32)], np.zeros((0, 3), np.int64))


def movement():
    x = normal(3, 1)
    case("movement", "broadcast", "broadcast %0 : f32[2, 3, 4]", [x], np.broadcast_to(x, (2, 3, 4)))
    case("movement", "broadcast_to_nothing", "broadcast %0 : f32[0, 3, 1]", [x], np.broadcast_to(x, (0, 3, 1)))
    s = np.array(2.5, np.float64)
    case("movement", "broadcast_of_a_scalar", "broadcast %0 : f64[2, 2]", [s], np.broadcast_to(s, (2, 2)))
    x = integers(2, 3, 5, low=-8, high=8, dtype=I4)
    case("movement", "transpose_of_i4", "transpose %0 perm=[2, 0, 1] : i4[5, 2, 3]", [x], x.transpose(2, 0, 1))
    x = integers(2, 3, 4, dtype=np.int16)
    case("movement", "transpose", "transpose %0 perm=[1, 2, 0] : i16[3, 4, 2]", [x], x.transpose(1, 2, 0))
    case("movement", "reshape", "reshape %0 : i16[6, 4]", [x], x.reshape(6, 4))
    x = normal(5, 7)
    case("movement", "slice_backwards", "slice %0 start=[4, 1] size=[3, 2] stride=[-2, 3] : f32[3, 2]", [x], x[4::-2, 1:7:3])
    case("movement", "slice_of_nothing", "slice %0 start=[5, 0] size=[0, 7] stride=[1, 1] : f32[0, 7]", [x], x[5:])
    a, b, c = normal(2, 1, 3), normal(2, 0, 3), normal(2, 4, 3)
    case("movement", "concat", "concat %0, %1, %2 axis=1 : f32[2, 5, 3]", [a, b, c], np.concatenate([a, b, c], 1))
    x, fill = normal(2, 4), np.array(9, np.float32)
    case("movement", "pad_constant", "pad %0, %1 low=[1, 0] high=[0, 3] mode=constant : f32[3, 7]", [x, fill],
         np.pad(x, ((1, 0), (0, 3)), constant_values=9))
    case("movement", "pad_crops", "pad %0, %1 low=[-1, 1] high=[0, -2] mode=constant : f32[1, 3]", [x, fill],
         np.pad(x, ((0, 0), (1, 0)), constant_values=9)[1:, :-2])
    for mode, theirs in {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}.items():
        case("movement", f"pad_{mode}", f"pad %0 low=[1, 7] high=[1, 5] mode={mode} : f32[4, 16]", [x],
             np.pad(x, ((1, 1), (7, 5)), mode=theirs))
    case("movement", "iota", "iota axis=1 : f16[2, 3]", [], np.broadcast_to(np.arange(3, dtype=np.float16), (2, 3)))


def gather():
    x, i = normal(4, 3, 2), np.array([[0, -1], [2, 1]], np.int64)
    case("gather", "gather", "gather %0, %1 axis=1 : f32[4, 2, 2, 2]", [x, i], np.take(x, i, 1))
    case("gather", "gather_of_a_scalar_index", "gather %0, %1 axis=0 : f32[3, 2]", [x, np.array(-4, np.int32)], x[-4])
    case("gather", "gather_of_no_indices", "gather %0, %1 axis=2 : f32[4, 3, 0]", [x, np.zeros(0, np.int64)], x[:, :, :0])
    x, i = normal(3, 4), np.array([[0, -1], [2, 3], [1, 1]], np.int64)
    case("gather", "gather_elements", "gather_elements %0, %1 axis=1 : f32[3, 2]", [x, i],
         onnx_run("GatherElements", [x, i], axis=1))
    x, i = integers(2, 3, 4, dtype=np.int32), np.array([[1, -1], [0, 2], [1, 1]], np.int64)
    case("gather", "gather_nd", "gather_nd %0, %1 batch_dims=0 : i32[3, 4]", [x, i], onnx_run("GatherND", [x, i], batch_dims=0))
    i = np.array([[[2, 1], [0, 0]], [[1, 3], [-1, -1]]], np.int64)
    case("gather", "gather_nd_in_batches", "gather_nd %0, %1 batch_dims=1 : i32[2, 2]", [x, i],
         onnx_run("GatherND", [x, i], batch_dims=1))


def reduce():
    x = normal(3, 4, 5)
    wide = x.astype(np.float64)
    for name, f in {"sum": np.sum, "product": np.prod, "mean": np.mean, "max": np.max, "min": np.min}.items():
        case("reduce", name, f"reduce_{name} %0 axes=[0, 2] : f32[4]", [x], f(wide, (0, 2)).astype(np.float32), 1.2e-7)
        case("reduce", f"{name}_of_everything", f"reduce_{name} %0 axes=[0, 1, 2] : f32[]", [x],
             f(wide).astype(np.float32), 1.2e-7)
    e = np.zeros((2, 0), np.float32)
    case("reduce", "sum_of_nothing", "reduce_sum %0 axes=[1] : f32[2]", [e], np.sum(e, 1))
    case("reduce", "product_of_nothing", "reduce_product %0 axes=[1] : f32[2]", [e], np.prod(e, 1))
    case("reduce", "mean_of_nothing", "reduce_mean %0 axes=[1] : f32[2]", [e], np.mean(e, 1))
    case("reduce", "max_of_nothing", "reduce_max %0 axes=[1] : f32[2]", [e], np.max(e, 1, initial=-np.inf))
    n = np.array([[1, np.nan, 2], [3, 1, 2]], np.float32)
    case("reduce", "max_keeps_nan", "reduce_max %0 axes=[1] : f32[2]", [n], np.max(n, 1))
    i = integers(2, 300, low=90, high=127)
    case("reduce", "sum_of_i8_wraps", "reduce_sum %0 axes=[1] : i8[2]", [i], np.sum(i, 1, dtype=np.int8))
    i = integers(3, 4, dtype=np.int32)
    case("reduce", "min_of_i32", "reduce_min %0 axes=[0] : i32[4]", [i], np.min(i, 0))
    case("reduce", "mean_of_i32_truncates", "reduce_mean %0 axes=[0] : i32[4]", [i], np.trunc(np.mean(i, 0)).astype(np.int32))
    b = rng.random((4, 3)) < 0.7
    case("reduce", "all", "reduce_all %0 axes=[1] : bool[4]", [b], np.all(b, 1))
    case("reduce", "any", "reduce_any %0 axes=[0] : bool[3]", [b], np.any(b, 0))
    t = np.array([[3, 1, 3], [2, 2, 2]], np.float32)
    for name, op in {"arg_max": "ArgMax", "arg_min": "ArgMin"}.items():
        for last in (False, True):
            case("reduce", f"{name}_{'last' if last else 'first'}", f"{name} %0 axis=1 last_on_tie={str(last).lower()} : i64[2]",
                 [t], onnx_run(op, [t], axis=1, keepdims=0, select_last_index=int(last)))
    case("reduce", "arg_max_of_nan", "arg_max %0 axis=1 last_on_tie=false : i64[2]", [n], np.argmax(n, 1))


def normalize():
    x = normal(2, 3, 4) * 5
    wide = x.astype(np.float64)
    case("normalize", "softmax", "softmax %0 axis=1 : f32[2, 3, 4]", [x], special.softmax(wide, 1).astype(np.float32), 1.2e-7)
    case("normalize", "log_softmax", "log_softmax %0 axis=2 : f32[2, 3, 4]", [x],
         special.log_softmax(wide, 2).astype(np.float32), 1.2e-7)
    big = np.array([[1e4, 1e4, -np.inf]], np.float32)
    case("normalize", "softmax_of_large_numbers", "softmax %0 axis=1 : f32[1, 3]", [big],
         special.softmax(big.astype(np.float64), 1).astype(np.float32))
    scale, bias = normal(3, 4, dtype=np.float64), normal(3, 4, dtype=np.float64)
    want = onnx_run("LayerNormalization", [wide, scale, bias], axis=1, epsilon=0.01)
    case("normalize", "layer_norm", "layer_norm %0, %1, %2 axis=1 epsilon=0.01 : f64[2, 3, 4]", [wide, scale, bias], want, 1e-7)
    want = onnx_run("LayerNormalization", [wide, np.ones(4)], axis=2, epsilon=1e-5)
    case("normalize", "layer_norm_alone", "layer_norm %0 axis=2 epsilon=1e-5 : f64[2, 3, 4]", [wide], want, 1e-7)


def contract():
    a, b = normal(2, 3, 5), normal(2, 5, 4)
    want = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    case("contract", "batched", "matmul %0, %1 : f32[2, 3, 4]", [a, b], want, 1.2e-7)
    a, b = normal(3, 7, dtype=np.float16), normal(7, 1, dtype=np.float16)
    want = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float16)
    case("contract", "f16_rounds_once", "matmul %0, %1 : f16[3, 1]", [a, b], want)
    a, b = np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32)
    case("contract", "no_inner_dimension_gives_zeros", "matmul %0, %1 : f32[2, 3]", [a, b], a @ b)
    a, b = integers(3, 9, low=0, high=255, dtype=np.uint8), integers(9, 2, low=-128, high=127)
    case("contract", "u8_by_i8_gives_i32", "matmul %0, %1 : i32[3, 2]", [a, b], a.astype(np.int32) @ b.astype(np.int32))
    a, b = integers(1, 3, high=2**40, dtype=np.int64), integers(3, 1, high=2**40, dtype=np.int64)
    case("contract", "i64_wraps", "matmul %0, %1 : i64[1, 1]", [a, b], a @ b)


def window_text(extent, stride, dilation, low, high, ceil=False):
    return f"extent={extent} stride={stride} dilation={dilation} pad_low={low} pad_high={high} ceil={str(ceil).lower()}"


def conv_case(name, x, w, stride, dilation, low, high, groups):
    want = onnx_run("Conv", [x.astype(np.float64), w.astype(np.float64)], strides=stride, dilations=dilation,
                    pads=low + high, group=groups).astype(np.float32)
    attributes = f"{window_text(list(w.shape[2:]), stride, dilation, low, high)} groups={groups}"
    case("window", name, f"conv %0, %1 {attributes} channels_last=false : f32{list(want.shape)}", [x, w], want, 2e-7)
    last = lambda a: np.moveaxis(a, 1, -1)
    case("window", f"{name}_channels_last", f"conv %0, %1 {attributes} channels_last=true : f32{list(last(want).shape)}",
         [last(x), w], last(want), 2e-7)


def window():
    conv_case("conv", normal(1, 2, 5, 5), normal(3, 2, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1], 1)
    conv_case("conv_uneven", normal(2, 2, 6, 5), normal(2, 2, 3, 2), [2, 1], [1, 2], [2, 0], [0, 3], 1)
    conv_case("conv_grouped", normal(1, 4, 4, 4), normal(6, 2, 1, 3), [1, 2], [1, 1], [0, 1], [0, 1], 2)
    conv_case("conv_depthwise", normal(1, 3, 4, 3), normal(3, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1], 3)
    conv_case("conv_of_one_axis", normal(2, 3, 8), normal(2, 3, 4), [3], [2], [1], [2], 1)
    conv_case("conv_of_three_axes", normal(1, 1, 3, 4, 3), normal(2, 1, 2, 2, 2), [1, 2, 1], [1, 1, 2], [0, 1, 1], [1, 0, 0], 1)
    x, w = integers(1, 2, 4, 4, low=0, high=255, dtype=np.uint8), integers(2, 2, 2, 2, low=-128, high=127)
    want = onnx_run("Conv", [x.astype(np.float64), w.astype(np.float64)]).astype(np.int32)
    attributes = window_text([2, 2], [1, 1], [1, 1], [0, 0], [0, 0])
    case("window", "conv_of_u8_by_i8", f"conv %0, %1 {attributes} groups=1 channels_last=false : i32[1, 2, 3, 3]", [x, w], want)

    def pool(name, x, extent, stride, dilation, low, high, ceil, kind, include):
        options = {} if kind == "MaxPool" else {"count_include_pad": int(include)}
        want = onnx_run(kind, [x.astype(np.float64)], kernel_shape=extent, strides=stride, dilations=dilation, pads=low + high,
                        ceil_mode=int(ceil), **options).astype(x.dtype)
        ours = "max_pool" if kind == "MaxPool" else "average_pool"
        attributes = f"{window_text(extent, stride, dilation, low, high, ceil)} include_pad={str(include).lower()}"
        case("window", name, f"{ours} %0 {attributes} channels_last=false : f32{list(want.shape)}", [x], want, 1.2e-7)

    x = normal(1, 2, 5, 6)
    pool("max_pool", x, [2, 2], [2, 2], [1, 1], [0, 0], [0, 0], False, "MaxPool", False)
    pool("max_pool_ceil", x, [2, 3], [2, 2], [1, 1], [0, 0], [0, 0], True, "MaxPool", False)
    pool("max_pool_dilated_padded", x, [3, 3], [1, 2], [2, 1], [1, 1], [1, 1], False, "MaxPool", False)
    pool("average_pool", x, [3, 3], [2, 2], [1, 1], [1, 1], [1, 1], False, "AveragePool", False)
    pool("average_pool_with_padding", x, [3, 3], [2, 2], [1, 1], [1, 1], [1, 1], False, "AveragePool", True)
    pool("average_pool_ceil", x, [3, 2], [2, 2], [1, 1], [0, 1], [0, 1], True, "AveragePool", False)
    pool("average_pool_of_everything", x, [5, 6], [1, 1], [1, 1], [0, 0], [0, 0], False, "AveragePool", False)


def order():
    x, i = normal(5, 3), np.array([[1], [-1], [1], [7], [-6]], np.int64)
    u = normal(5, 3)
    for name, join in [("set", lambda old, new: new), ("add", np.add), ("mul", np.multiply), ("max", np.maximum), ("min", np.minimum)]:
        want = x.astype(np.float64)
        for [at], update in zip(i, u):
            if -5 <= at < 5:
                want[at] = join(want[at], update)
        case("order", f"scatter_{name}_of_rows_twice_and_outside", f"scatter_{name} %0, %1, %2 : f32[5, 3]", [x, i, u], want.astype(np.float32), 1.2e-7)
    x, i = integers(2, 3, 4, dtype=np.int16), np.array([[[1, -1, 0], [0, 2, 3]]], np.int32)
    u = integers(1, 2, dtype=np.int16)
    case("order", "scatter_elements_by_tuples", "scatter_add %0, %1, %2 : i16[2, 3, 4]", [x, i, u],
         onnx_run("ScatterND", [x, i.astype(np.int64), u], reduction="add"))
    u = integers(2, 2, 3, 4, dtype=np.uint8, low=0, high=200)
    x = integers(2, 3, 4, dtype=np.uint8, low=0, high=200)
    case("order", "scatter_of_everything_wraps", "scatter_add %0, %1, %2 : u8[2, 3, 4]", [x, np.zeros((2, 0), np.int64), u], x + u[0] + u[1])
    x = np.array([True, True, False, False])
    i, u = np.array([[0], [1], [2], [3]], np.int64), np.array([True, False, True, False])
    case("order", "scatter_add_of_bools_is_or", "scatter_add %0, %1, %2 : bool[4]", [x, i, u], x | u)
    case("order", "scatter_mul_of_bools_is_and", "scatter_mul %0, %1, %2 : bool[4]", [x, i, u], x & u)
    x = np.array([1, np.nan, 2], np.float32)
    i, u = np.array([[0], [1]], np.int64), np.array([np.nan, 5], np.float32)
    case("order", "scatter_max_keeps_nan", "scatter_max %0, %1, %2 : f32[3]", [x, i, u], np.array([np.nan, np.nan, 2], np.float32))

    x = normal(2, 5, 3)
    for axis in range(3):
        for exclusive in (0, 1):
            for reverse in (0, 1):
                flags = f"exclusive={str(bool(exclusive)).lower()} reverse={str(bool(reverse)).lower()}"
                name = f"along_{axis}_{exclusive}_{reverse}"
                want = onnx_run("CumSum", [x.astype(np.float64), np.array(axis, np.int32)], exclusive=exclusive, reverse=reverse)
                case("order", f"cumulative_sum_{name}", f"cumulative_sum %0 axis={axis} {flags} : f32[2, 5, 3]", [x], want.astype(np.float32), 1.2e-7)
    x = integers(3, 4, low=-3, high=4)
    case("order", "cumulative_product_wraps", "cumulative_product %0 axis=1 exclusive=false reverse=false : i8[3, 4]", [x * 11], np.cumprod(x * 11, 1, dtype=np.int8))
    case("order", "cumulative_product_without_the_own", "cumulative_product %0 axis=0 exclusive=true reverse=false : i8[3, 4]", [x],
         np.concatenate([np.ones((1, 4), np.int8), np.cumprod(x, 0, dtype=np.int8)[:-1]]))

    x = integers(3, 7, low=-3, high=3)
    for axis in (0, 1):
        case("order", f"sort_along_{axis}_is_stable", f"sort %0 axis={axis} descending=false : i64[3, 7]", [x], np.argsort(x, axis, kind="stable"))
        case("order", f"sort_down_{axis}_is_stable", f"sort %0 axis={axis} descending=true : i64[3, 7]", [x],
             np.argsort(-x.astype(np.int64), axis, kind="stable"))
    x = np.array([2, np.nan, -0.0, np.inf, 0, -np.inf, np.nan, -1], np.float32)
    case("order", "sort_with_nan_last_and_zeros_equal", "sort %0 axis=0 descending=false : i64[8]", [x], np.argsort(x, kind="stable"))
    case("order", "sort_down_with_nan_first", "sort %0 axis=0 descending=true : i64[8]", [x], np.array([1, 6, 3, 0, 2, 4, 7, 5]))
    x = np.array([True, False, True, False])
    case("order", "sort_of_bools", "sort %0 axis=0 descending=false : i64[4]", [x], np.array([1, 3, 0, 2]))


np.seterr(all="ignore")
for family in (elementwise, movement, gather, reduce, normalize, contract, window, order):
    family()
for family, cases in FAMILIES.items():
    with open(os.path.join("ops", f"{family}.toml"), "w") as out:
        print(f'oracle = "{ORACLE}"', file=out)
        for name, op, inputs, expected, within in cases:
            print(f'\n[[case]]\nname = "{name}"\nop = "{op}"', file=out)
            print("in = [" + ", ".join(f'"{text(a)}"' for a in inputs) + "]", file=out)
            print(f'out = "{text(expected)}"', file=out)
            if within is not None:
                print(f"within = {within}", file=out)
