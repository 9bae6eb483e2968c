//! Every operator that is imported: domain, name, the version of the operator set its function reads from on, and
//! the function. Where versions differ in what they mean, an operator has several lines and the newest that is not
//! newer than the model's applies; where they differ in form only, its function looks at the version.

use ired_graph::{ArgReduceFn, BinaryFn, Builder, CompareFn, CumulativeFn, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome};
use super::import::{Binding, Frame, Importer, Scope};
use super::{
    activation, attention, cast, causal_convolution, classical, col2im, constant, control, convolution,
    cropping, determinant, einsum, elementwise, filters, image, indexing, labels, linear, linear_attention,
    loss, microsoft, movement, normalization, pooling, quantization, quantized, ranking, recurrent,
    reduction, resize, roi, rotary, sampling, scatter, selection, shape, signal, slicing, softmax,
    suppression, text, transposed,
};

/// How an operator is imported.
#[derive(Clone, Copy)]
pub(crate) enum Import {
    /// Into its one output.
    One(fn(&mut Builder<'_>, &Call<'_>) -> Outcome),
    /// Into all its outputs, in order; those not wanted may be missing at the end.
    Many(fn(&mut Builder<'_>, &Call<'_>) -> Outcome<Vec<ValueId>>),
    /// With the graphs in its attributes.
    WithGraphs(fn(&mut Importer<'_>, &Call<'_>, &Scope<'_>, &Frame<'_>) -> Outcome<Vec<Binding>>),
}

use Import::{Many, One, WithGraphs};

/// The domain of onnxruntime's own operators.
const MICROSOFT: &str = "com.microsoft";

type Entry = (&'static str, &'static str, i64, Import);

/// Sorted by nothing but family; found by [`find`].
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
    ("", "Identity", 1, One(elementwise::identity)),
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
    ("ai.onnx.ml", "ArrayFeatureExtractor", 1, One(indexing::array_feature_extractor)),
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
    ("", "Einsum", 12, One(einsum::einsum)),
    ("", "Conv", 1, One(convolution::conv)),
    ("", "ConvTranspose", 1, One(transposed::conv_transpose)),
    ("", "MaxPool", 1, Many(pooling::max_pool)),
    ("", "AveragePool", 1, One(pooling::average_pool)),
    ("", "LpPool", 1, One(pooling::lp_pool)),
    ("", "GlobalLpPool", 1, One(pooling::global_lp_pool)),
    ("", "GlobalAveragePool", 1, One(|b, c| pooling::global_pool(b, c, ReduceFn::Mean))),
    ("", "GlobalMaxPool", 1, One(|b, c| pooling::global_pool(b, c, ReduceFn::Max))),
    ("", "Det", 11, One(determinant::determinant)),
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
    ("com.microsoft", "QuantizeLinear", 1, One(quantization::quantize)),
    ("com.microsoft", "DequantizeLinear", 1, One(quantization::dequantize)),
    // Computing on quantised tensors.
    ("", "MatMulInteger", 10, One(quantized::matmul_integer)),
    ("", "ConvInteger", 10, One(quantized::conv_integer)),
    ("", "QLinearMatMul", 10, One(quantized::qlinear_matmul)),
    ("", "QLinearConv", 10, One(quantized::qlinear_conv)),
    ("com.microsoft", "QLinearConv", 1, One(quantized::qlinear_conv)),
    ("com.microsoft", "QGemm", 1, One(quantized::qgemm)),
    ("com.microsoft", "MatMulIntegerToFloat", 1, One(quantized::matmul_integer_to_float)),
    ("com.microsoft", "DynamicQuantizeMatMul", 1, One(quantized::dynamic_quantize_matmul)),
    ("com.microsoft", "QLinearAdd", 1, One(quantized::qlinear_add)),
    ("com.microsoft", "QLinearMul", 1, One(quantized::qlinear_mul)),
    ("com.microsoft", "QLinearSigmoid", 1, One(quantized::qlinear_sigmoid)),
    ("com.microsoft", "QLinearLeakyRelu", 1, One(quantized::qlinear_leaky_relu)),
    ("com.microsoft", "QLinearSoftmax", 1, One(quantized::qlinear_softmax)),
    ("com.microsoft", "QLinearConcat", 1, One(quantized::qlinear_concat)),
    ("com.microsoft", "QLinearWhere", 1, One(quantized::qlinear_where)),
    ("com.microsoft", "QLinearAveragePool", 1, One(quantized::qlinear_average_pool)),
    ("com.microsoft", "QLinearGlobalAveragePool", 1, One(quantized::qlinear_global_average_pool)),
    ("com.microsoft", "QLinearReduceMean", 1, One(quantized::qlinear_reduce_mean)),
    ("com.microsoft", "QEmbedLayerNormalization", 1, Many(quantized::embed_layer_norm)),
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
    ("ai.onnx.ml", "TreeEnsemble", 5, One(classical::tree_ensemble)),
    ("ai.onnx.ml", "TreeEnsembleRegressor", 1, One(classical::tree_regressor)),
    ("ai.onnx.ml", "TreeEnsembleClassifier", 1, Many(classical::tree_classifier)),
    ("ai.onnx.ml", "LinearRegressor", 1, One(classical::linear_regressor)),
    ("ai.onnx.ml", "LinearClassifier", 1, Many(classical::linear_classifier)),
    ("ai.onnx.ml", "SVMRegressor", 1, One(classical::svm_regressor)),
    ("ai.onnx.ml", "SVMClassifier", 1, Many(classical::svm_classifier)),
    ("ai.onnx.ml", "Scaler", 1, One(classical::scaler)),
    ("ai.onnx.ml", "Normalizer", 1, One(classical::normalizer)),
    ("ai.onnx.ml", "Binarizer", 1, One(classical::binarizer)),
    ("ai.onnx.ml", "Imputer", 1, One(classical::imputer)),
    ("ai.onnx.ml", "FeatureVectorizer", 1, One(classical::feature_vectorizer)),
    ("ai.onnx.ml", "ZipMap", 1, One(classical::refuse_maps)),
    ("ai.onnx.ml", "CastMap", 1, One(classical::refuse_maps)),
    ("ai.onnx.ml", "DictVectorizer", 1, One(classical::refuse_maps)),
    ("ai.onnx.ml", "LabelEncoder", 1, One(labels::label_encoder)),
    ("ai.onnx.ml", "CategoryMapper", 1, One(labels::category_mapper)),
    ("ai.onnx.ml", "OneHotEncoder", 1, One(labels::one_hot_encoder)),
    // com.microsoft.
    (MICROSOFT, "Attention", 1, Many(microsoft::attention::attention)),
    (MICROSOFT, "MultiHeadAttention", 1, Many(microsoft::attention::multi_head)),
    (MICROSOFT, "GroupQueryAttention", 1, Many(microsoft::grouped_query::attention)),
    (MICROSOFT, "RotaryEmbedding", 1, One(microsoft::grouped_query::rotary_embedding)),
    (MICROSOFT, "RelativePositionBias", 1, One(microsoft::activation::relative_position_bias)),
    (MICROSOFT, "SkipLayerNormalization", 1, Many(microsoft::normalization::skip_layer)),
    (MICROSOFT, "SkipSimplifiedLayerNormalization", 1, Many(microsoft::normalization::skip_root_mean_square)),
    (MICROSOFT, "EmbedLayerNormalization", 1, Many(microsoft::normalization::embedding)),
    (MICROSOFT, "GroupNorm", 1, Many(|b, c| microsoft::normalization::group(b, c, false))),
    (MICROSOFT, "SkipGroupNorm", 1, Many(|b, c| microsoft::normalization::group(b, c, true))),
    (MICROSOFT, "Gelu", 1, One(|b, c| microsoft::activation::gelu(b, c, false))),
    (MICROSOFT, "BiasGelu", 1, One(|b, c| microsoft::activation::gelu(b, c, false))),
    (MICROSOFT, "FastGelu", 1, One(|b, c| microsoft::activation::gelu(b, c, true))),
    (MICROSOFT, "QuickGelu", 1, One(microsoft::activation::quick_gelu)),
    (MICROSOFT, "BiasSplitGelu", 1, One(microsoft::activation::bias_split_gelu)),
    (MICROSOFT, "BiasAdd", 1, One(microsoft::activation::bias_add)),
    (MICROSOFT, "BiasSoftmax", 1, One(microsoft::activation::bias_softmax)),
    (MICROSOFT, "FusedMatMul", 1, One(microsoft::product::matmul)),
    (MICROSOFT, "TransposeMatMul", 1, One(microsoft::product::matmul)),
    (MICROSOFT, "FusedMatMulActivation", 1, One(microsoft::product::matmul_activation)),
    (MICROSOFT, "FusedGemm", 1, One(microsoft::product::gemm)),
    (MICROSOFT, "FusedConv", 1, One(|b, c| microsoft::product::conv(b, c, false))),
    (MICROSOFT, "NhwcConv", 1, One(|b, c| microsoft::product::conv(b, c, true))),
    (MICROSOFT, "NhwcFusedConv", 1, One(|b, c| microsoft::product::conv(b, c, true))),
    (MICROSOFT, "CDist", 1, One(microsoft::product::distances)),
    (MICROSOFT, "ComplexMul", 1, One(|b, c| microsoft::product::complex(b, c, false))),
    (MICROSOFT, "ComplexMulConj", 1, One(|b, c| microsoft::product::complex(b, c, true))),
    (MICROSOFT, "IsAllFinite", 1, One(microsoft::product::all_finite)),
    (MICROSOFT, "MatMulNBits", 1, One(microsoft::weights::matmul_bits)),
    (MICROSOFT, "GatherBlockQuantized", 1, One(microsoft::weights::gather_blocks)),
    (MICROSOFT, "Trilu", 1, One(movement::triangle)),
    // Control flow.
    ("", "If", 1, WithGraphs(control::if_else)),
];

/// Domain, name and version of every line.
pub(crate) fn entries() -> impl Iterator<Item = (&'static str, &'static str, i64)> {
    OPERATORS.iter().map(|(domain, op, version, _)| (*domain, *op, *version))
}

/// Why [`find`] has nothing.
pub(crate) enum NotFound {
    /// No version of the operator is known.
    Operator,
    /// The oldest version that is.
    OlderThan(i64),
}

/// The function for an operator as of `version` of its operator set.
pub(crate) fn find(domain: &str, op_type: &str, version: i64) -> Result<Import, NotFound> {
    let known = || OPERATORS.iter().filter(|(d, op, ..)| *d == domain && *op == op_type);
    match known().filter(|entry| entry.2 <= version).max_by_key(|entry| entry.2) {
        Some(entry) => Ok(entry.3),
        None => Err(known().map(|entry| entry.2).min().map_or(NotFound::Operator, NotFound::OlderThan)),
    }
}
