//! The operators of `com.microsoft`, into which onnxruntime's optimiser fuses the standard ones.

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod grouped_query;
pub(super) mod normalization;
pub(super) mod product;
pub(super) mod weights;
