//! The operators of `com.microsoft`, into which onnxruntime's optimiser fuses the standard ones.

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod decoder;
pub(super) mod experts;
pub(super) mod grouped_query;
pub(super) mod normalization;
pub(super) mod packed;
pub(super) mod product;
pub(super) mod tables;
pub(super) mod unfolding;
pub(super) mod weights;
