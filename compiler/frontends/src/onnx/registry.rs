//! Every operator that is imported: domain, name, the version of the operator set its function reads from on, and
//! the function. Where versions differ in what they mean, an operator has several lines and the newest that is not
//! newer than the model's applies; where they differ in form only, its function looks at the version.

mod classical;
mod microsoft;

use ired_graph::{ArgReduceFn, BinaryFn, Builder, CompareFn, CumulativeFn, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome};
use super::import::{Binding, Frame, Importer, Scope};
use super::{
    activation, attention, cast, causal_convolution, col2im, constant, control, convolution, cropping,
    einsum, elementwise, elimination, filters, image, indexing, linear, linear_attention, loops, loss,
    movement, normalization, optimizer, optional, pooling, quantization, quantized, random, ranking,
    recurrent, reduction, resize, roi, rotary, sampling, scatter, selection, sequence, shape, signal,
    slicing, softmax, suppression, text, transposed,
};

/// How an operator is imported.
#[derive(Clone, Copy)]
pub(crate) enum Import {
    /// Into its one output.
    One(fn(&mut Builder<'_>, &Call<'_>) -> Outcome),
    /// Into all its outputs, in order; those not wanted may be missing at the end.
    Many(fn(&mut Builder<'_>, &Call<'_>) -> Outcome<Vec<ValueId>>),
    /// Of inputs and into outputs that may be sequences or optional values.
    Composed(fn(&mut Builder<'_>, &Call<'_>) -> Outcome<Vec<Binding>>),
    /// With the graphs in its attributes.
    WithGraphs(fn(&mut Importer<'_>, &Call<'_>, &Scope<'_>, &Frame<'_>) -> Outcome<Vec<Binding>>),
    /// As a standard operator of this name, of this version.
    Standard(&'static str, i64),
}

use Import::{Composed, Many, One, WithGraphs};

type Entry = (&'static str, &'static str, i64, Import);

/// The lists, each of some domains.
const LISTS: [&[Entry]; 3] = [OPERATORS, microsoft::OPERATORS, classical::OPERATORS];

/// The standard operators and those of previews, sorted by nothing but family; found by [`find`].
#[rustfmt::skip]
const OPERATORS: &[Entry] = &[
    // Arithmetic.
    ("", "Add", 1, One(|b, c| elementwise::binary(b, c, BinaryFn::Add))),
    ("", "Sub", 1, One(|b, c| elementwise::binary(b, c, BinaryFn::Sub))),
    ("", "Mul", 1, One(|b, c| elementwise::binary(b, c, BinaryFn::Mul))),
    ("", "Div", 1, One(|b, c| elementwise::binary(b, c, BinaryFn::Div))),
    ("", "Pow", 1, One(elementwise::pow)),
    ("", "Mod", 10, One(elementwise::modulo)),
    ("", "Max", 1, One(|b, c| elementwise::variadic(b, c, BinaryFn::Max))),
    ("", "Min", 1, One(|b, c| elementwise::variadic(b, c, BinaryFn::Min))),
    ("", "Sum", 1, One(|b, c| elementwise::variadic(b, c, BinaryFn::Add))),
    ("", "Mean", 1, One(elementwise::mean)),
    ("", "Abs", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Abs))),
    ("", "Neg", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Neg))),
    ("", "Sign", 9, One(|b, c| elementwise::unary(b, c, UnaryFn::Sign))),
    ("", "Reciprocal", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Reciprocal))),
    ("", "Sqrt", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Sqrt))),
    ("", "Exp", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Exp))),
    ("", "Log", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Log))),
    ("", "Erf", 9, One(|b, c| elementwise::unary(b, c, UnaryFn::Erf))),
    ("", "Sin", 7, One(|b, c| elementwise::unary(b, c, UnaryFn::Sin))),
    ("", "Cos", 7, One(|b, c| elementwise::unary(b, c, UnaryFn::Cos))),
    ("", "Tan", 7, One(|b, c| elementwise::unary(b, c, UnaryFn::Tan))),
    ("", "Asin", 7, One(|b, c| elementwise::unary(b, c, UnaryFn::Asin))),
    ("", "Acos", 7, One(|b, c| elementwise::unary(b, c, UnaryFn::Acos))),
    ("", "Atan", 7, One(|b, c| elementwise::unary(b, c, UnaryFn::Atan))),
    ("", "Sinh", 9, One(|b, c| elementwise::unary(b, c, UnaryFn::Sinh))),
    ("", "Cosh", 9, One(|b, c| elementwise::unary(b, c, UnaryFn::Cosh))),
    ("", "Tanh", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Tanh))),
    ("", "Asinh", 9, One(|b, c| elementwise::unary(b, c, UnaryFn::Asinh))),
    ("", "Acosh", 9, One(|b, c| elementwise::unary(b, c, UnaryFn::Acosh))),
    ("", "Atanh", 9, One(|b, c| elementwise::unary(b, c, UnaryFn::Atanh))),
    ("", "Floor", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Floor))),
    ("", "Ceil", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Ceil))),
    ("", "Round", 11, One(|b, c| elementwise::unary(b, c, UnaryFn::Round))),
    ("", "BitShift", 11, One(elementwise::bit_shift)),
    // Comparison and logic.
    ("", "Equal", 1, One(|b, c| elementwise::compare(b, c, CompareFn::Eq))),
    ("", "Less", 1, One(|b, c| elementwise::compare(b, c, CompareFn::Lt))),
    ("", "LessOrEqual", 12, One(|b, c| elementwise::compare(b, c, CompareFn::Le))),
    ("", "Greater", 1, One(|b, c| elementwise::compare(b, c, CompareFn::Gt))),
    ("", "GreaterOrEqual", 12, One(|b, c| elementwise::compare(b, c, CompareFn::Ge))),
    ("", "And", 1, One(|b, c| elementwise::binary(b, c, BinaryFn::And))),
    ("", "Or", 1, One(|b, c| elementwise::binary(b, c, BinaryFn::Or))),
    ("", "Xor", 1, One(|b, c| elementwise::binary(b, c, BinaryFn::Xor))),
    ("", "Not", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Not))),
    ("", "BitwiseAnd", 18, One(|b, c| elementwise::binary(b, c, BinaryFn::And))),
    ("", "BitwiseOr", 18, One(|b, c| elementwise::binary(b, c, BinaryFn::Or))),
    ("", "BitwiseXor", 18, One(|b, c| elementwise::binary(b, c, BinaryFn::Xor))),
    ("", "BitwiseNot", 18, One(|b, c| elementwise::unary(b, c, UnaryFn::BitNot))),
    ("", "IsNaN", 9, One(elementwise::is_nan)),
    ("", "IsInf", 10, One(elementwise::is_inf)),
    ("", "Where", 9, One(elementwise::select)),
    ("", "Clip", 1, One(elementwise::clip)),
    // Conversion and passing on.
    ("", "Cast", 6, One(cast::cast)),
    ("", "BitCast", 26, One(cast::bit_cast)),
    ("", "CastLike", 15, One(cast::cast_like)),
    ("", "Identity", 1, Composed(elementwise::identity)),
    ("", "Dropout", 1, Many(elementwise::dropout)),
    // Activation.
    ("", "Relu", 1, One(activation::relu)),
    ("", "LeakyRelu", 1, One(activation::leaky_relu)),
    ("", "PRelu", 1, One(activation::prelu)),
    ("", "Elu", 1, One(activation::elu)),
    ("", "Celu", 12, One(activation::celu)),
    ("", "Selu", 1, One(activation::selu)),
    ("", "Gelu", 20, One(activation::gelu)),
    ("", "Sigmoid", 1, One(|b, c| elementwise::unary(b, c, UnaryFn::Sigmoid))),
    ("", "HardSigmoid", 1, One(activation::hard_sigmoid)),
    ("", "HardSwish", 14, One(activation::hard_swish)),
    ("", "Swish", 24, One(activation::swish)),
    ("", "SwiGLU", 28, One(activation::swish_gated)),
    ("", "Softplus", 1, One(activation::softplus)),
    ("", "Softsign", 1, One(activation::softsign)),
    ("", "Mish", 18, One(activation::mish)),
    ("", "ThresholdedRelu", 10, One(activation::thresholded_relu)),
    ("", "Shrink", 9, One(activation::shrink)),
    ("", "Softmax", 1, One(|b, c| softmax::softmax(b, c, false))),
    ("", "LogSoftmax", 1, One(|b, c| softmax::softmax(b, c, true))),
    ("", "Hardmax", 1, One(softmax::hardmax)),
    // Constants and shapes.
    ("", "Constant", 1, One(constant::constant)),
    ("", "ConstantOfShape", 9, One(constant::constant_of_shape)),
    ("", "Range", 11, One(constant::range)),
    ("", "EyeLike", 9, One(constant::eye_like)),
    ("", "Shape", 1, One(shape::shape)),
    ("", "Size", 1, One(shape::size)),
    ("", "Reshape", 1, One(shape::reshape)),
    ("", "Flatten", 1, One(shape::flatten)),
    ("", "Squeeze", 1, One(shape::squeeze)),
    ("", "Unsqueeze", 1, One(shape::unsqueeze)),
    ("", "Expand", 8, One(shape::expand)),
    // Movement.
    ("", "Transpose", 1, One(movement::transpose)),
    ("", "Concat", 1, One(movement::concat)),
    ("", "Tile", 1, One(movement::tile)),
    ("", "Pad", 1, One(movement::pad)),
    ("", "DepthToSpace", 1, One(movement::depth_to_space)),
    ("", "SpaceToDepth", 1, One(movement::space_to_depth)),
    ("", "Trilu", 14, One(movement::triangle)),
    ("", "Resize", 10, One(resize::resize)),
    ("", "Upsample", 1, One(resize::upsample)),
    ("", "CenterCropPad", 18, One(cropping::center_crop_pad)),
    ("", "Col2Im", 18, One(col2im::col2im)),
    ("", "Slice", 1, One(slicing::slice)),
    ("", "Split", 1, Many(slicing::split)),
    ("", "Gather", 1, One(indexing::gather)),
    ("", "GatherElements", 11, One(indexing::gather_elements)),
    ("", "GatherND", 11, One(indexing::gather_nd)),
    ("", "OneHot", 9, One(indexing::one_hot)),
    ("", "ReverseSequence", 10, One(indexing::reverse_sequence)),
    // Scatters, orders and selections.
    ("", "Scatter", 9, One(scatter::scatter_elements)),
    ("", "ScatterElements", 11, One(scatter::scatter_elements)),
    ("", "ScatterND", 11, One(scatter::scatter_nd)),
    ("", "TensorScatter", 24, One(scatter::tensor_scatter)),
    ("", "MaxUnpool", 9, One(scatter::max_unpool)),
    ("", "TopK", 1, Many(ranking::top_k)),
    ("", "CumSum", 11, One(|b, c| ranking::cumulative(b, c, CumulativeFn::Sum))),
    ("", "CumProd", 26, One(|b, c| ranking::cumulative(b, c, CumulativeFn::Product))),
    ("", "NonZero", 9, One(selection::non_zero)),
    ("", "Compress", 9, One(selection::compress)),
    ("", "Unique", 11, Many(selection::unique)),
    ("", "NonMaxSuppression", 10, One(suppression::non_max_suppression)),
    // Linear algebra and windows.
    ("", "MatMul", 1, One(linear::matmul)),
    ("", "Gemm", 1, One(linear::gemm)),
    ("", "Det", 11, One(elimination::determinant)),
    ("", "Einsum", 12, One(einsum::einsum)),
    ("", "Conv", 1, One(convolution::conv)),
    ("", "ConvTranspose", 1, One(transposed::conv_transpose)),
    ("", "MaxPool", 1, Many(pooling::max_pool)),
    ("", "AveragePool", 1, One(pooling::average_pool)),
    ("", "LpPool", 1, One(pooling::lp_pool)),
    ("", "GlobalLpPool", 1, One(pooling::global_lp_pool)),
    ("", "GlobalAveragePool", 1, One(|b, c| pooling::global_pool(b, c, ReduceFn::Mean))),
    ("", "GlobalMaxPool", 1, One(|b, c| pooling::global_pool(b, c, ReduceFn::Max))),
    // Sampling and regions.
    ("", "GridSample", 16, One(sampling::grid_sample)),
    ("", "AffineGrid", 20, One(sampling::affine_grid)),
    ("", "DeformConv", 19, One(sampling::deform_conv)),
    ("", "RoiAlign", 10, One(roi::roi_align)),
    ("", "MaxRoiPool", 1, One(roi::max_roi_pool)),
    // Signals.
    ("", "DFT", 17, One(signal::dft)),
    ("", "STFT", 17, One(signal::stft)),
    ("", "HannWindow", 17, One(|b, c| filters::cosine_window(b, c, &[0.5, -0.5]))),
    ("", "HammingWindow", 17, One(|b, c| filters::cosine_window(b, c, &[25.0 / 46.0, -21.0 / 46.0]))),
    ("", "BlackmanWindow", 17, One(|b, c| filters::cosine_window(b, c, &[0.42, -0.5, 0.08]))),
    ("", "MelWeightMatrix", 17, One(filters::mel_weights)),
    // Normalisation.
    ("", "BatchNormalization", 1, Many(normalization::batch)),
    ("", "InstanceNormalization", 1, One(normalization::instance)),
    ("", "GroupNormalization", 18, One(normalization::group)),
    ("", "LayerNormalization", 17, Many(normalization::layer)),
    ("", "RMSNormalization", 23, Many(normalization::root_mean_square)),
    ("", "SimplifiedLayerNormalization", 1, Many(normalization::root_mean_square)),
    ("", "MeanVarianceNormalization", 9, One(normalization::mean_variance)),
    ("", "LRN", 1, One(normalization::local_response)),
    ("", "LpNormalization", 1, One(normalization::lp)),
    // Attention and sequences.
    ("", "Attention", 23, Many(attention::attention)),
    ("ai.onnx.preview", "FlexAttention", 1, WithGraphs(attention::flex)),
    ("", "RotaryEmbedding", 23, One(rotary::rotary_embedding)),
    ("", "RNN", 1, Many(recurrent::rnn)),
    ("", "LSTM", 1, Many(recurrent::lstm)),
    ("", "GRU", 1, Many(recurrent::gru)),
    ("", "LinearAttention", 27, Many(linear_attention::linear_attention)),
    ("", "CausalConvWithState", 27, Many(causal_convolution::with_state)),
    // Losses.
    ("", "NegativeLogLikelihoodLoss", 12, One(loss::negative_log_likelihood)),
    ("", "SoftmaxCrossEntropyLoss", 12, Many(loss::softmax_cross_entropy)),
    // Quantisation.
    ("", "QuantizeLinear", 10, One(quantization::quantize)),
    ("", "DequantizeLinear", 10, One(quantization::dequantize)),
    ("", "DynamicQuantizeLinear", 11, Many(quantization::dynamic_quantize)),
    // Computing on quantised tensors.
    ("", "MatMulInteger", 10, One(quantized::matmul_integer)),
    ("", "ConvInteger", 10, One(quantized::conv_integer)),
    ("", "QLinearMatMul", 10, One(quantized::qlinear_matmul)),
    ("", "QLinearConv", 10, One(quantized::qlinear_conv)),
    // Reduction.
    ("", "ReduceSum", 1, One(|b, c| reduction::reduce(b, c, ReduceFn::Sum))),
    ("", "ReduceMean", 1, One(|b, c| reduction::reduce(b, c, ReduceFn::Mean))),
    ("", "ReduceMax", 1, One(|b, c| reduction::reduce(b, c, ReduceFn::Max))),
    ("", "ReduceMin", 1, One(|b, c| reduction::reduce(b, c, ReduceFn::Min))),
    ("", "ReduceProd", 1, One(|b, c| reduction::reduce(b, c, ReduceFn::Product))),
    ("", "ReduceL1", 1, One(reduction::l1)),
    ("", "ReduceL2", 1, One(reduction::l2)),
    ("", "ReduceSumSquare", 1, One(reduction::sum_square)),
    ("", "ReduceLogSum", 1, One(reduction::log_sum)),
    ("", "ReduceLogSumExp", 1, One(reduction::log_sum_exp)),
    ("", "ArgMax", 1, One(|b, c| reduction::arg_reduce(b, c, ArgReduceFn::Max))),
    ("", "ArgMin", 1, One(|b, c| reduction::arg_reduce(b, c, ArgReduceFn::Min))),
    // Text, labels and images.
    ("", "StringConcat", 20, One(text::concat)),
    ("", "StringNormalizer", 10, One(text::normalize)),
    ("", "StringSplit", 20, Many(text::split)),
    ("", "RegexFullMatch", 20, One(text::full_match)),
    ("", "TfIdfVectorizer", 9, One(text::tf_idf)),
    ("", "ImageDecoder", 20, One(image::decode)),
    // Training.
    ("ai.onnx.preview.training", "Adagrad", 1, Many(optimizer::adagrad)),
    ("ai.onnx.preview.training", "Adam", 1, Many(optimizer::adam)),
    ("ai.onnx.preview.training", "Momentum", 1, Many(optimizer::momentum)),
    // Random numbers.
    ("", "RandomUniform", 1, One(|b, c| random::uniform(b, c, false))),
    ("", "RandomUniformLike", 1, One(|b, c| random::uniform(b, c, true))),
    ("", "RandomNormal", 1, One(|b, c| random::normal(b, c, false))),
    ("", "RandomNormalLike", 1, One(|b, c| random::normal(b, c, true))),
    ("", "Bernoulli", 15, One(random::bernoulli)),
    ("", "Multinomial", 7, One(random::multinomial)),
    // Control flow.
    ("", "If", 1, WithGraphs(control::if_else)),
    ("", "Loop", 1, WithGraphs(loops::repeat)),
    ("", "Scan", 8, WithGraphs(loops::scan)),
    // Sequences and optional values.
    ("", "SequenceConstruct", 11, Composed(sequence::construct)),
    ("", "SequenceEmpty", 11, Composed(sequence::empty)),
    ("", "SequenceAt", 11, Composed(sequence::at)),
    ("", "SequenceInsert", 11, Composed(sequence::insert)),
    ("", "SequenceErase", 11, Composed(sequence::erase)),
    ("", "SequenceLength", 11, Composed(sequence::length)),
    ("", "SplitToSequence", 11, Composed(sequence::split)),
    ("", "ConcatFromSequence", 11, Composed(sequence::concat)),
    ("", "SequenceMap", 17, WithGraphs(loops::sequence_map)),
    ("", "Optional", 15, Composed(optional::optional)),
    ("", "OptionalGetElement", 15, Composed(optional::get_element)),
    ("", "OptionalHasElement", 15, Composed(optional::has_element)),
];

/// Domain, name and version of every line.
pub(crate) fn entries() -> impl Iterator<Item = (&'static str, &'static str, i64)> {
    LISTS.iter().copied().flatten().map(|(domain, op, version, _)| (*domain, *op, *version))
}

/// Why [`find`] has nothing.
pub(crate) enum NotFound {
    /// No version of the operator is known.
    Operator,
    /// The oldest version that is.
    OlderThan(i64),
}

/// The function for an operator as of `version` of its operator set, and the version that it reads the node as.
pub(crate) fn find(domain: &str, op_type: &str, version: i64) -> Result<(Import, i64), NotFound> {
    let known = || LISTS.iter().copied().flatten().filter(|(d, op, ..)| *d == domain && *op == op_type);
    match known().filter(|entry| entry.2 <= version).max_by_key(|entry| entry.2) {
        Some((.., Import::Standard(name, version))) => find("", name, *version),
        Some(entry) => Ok((entry.3, version)),
        None => Err(known().map(|entry| entry.2).min().map_or(NotFound::Operator, NotFound::OlderThan)),
    }
}
