//! The operators of ai.onnx.ml.

use super::super::{classical, indexing, labels};
use super::Entry;
use super::Import::{Composed, Many, One};

const ML: &str = "ai.onnx.ml";

#[rustfmt::skip]
pub(super) const OPERATORS: &[Entry] = &[
    (ML, "ArrayFeatureExtractor", 1, One(indexing::array_feature_extractor)),
    (ML, "TreeEnsemble", 5, One(classical::tree_ensemble)),
    (ML, "TreeEnsembleRegressor", 1, One(classical::tree_regressor)),
    (ML, "TreeEnsembleClassifier", 1, Many(classical::tree_classifier)),
    (ML, "LinearRegressor", 1, One(classical::linear_regressor)),
    (ML, "LinearClassifier", 1, Many(classical::linear_classifier)),
    (ML, "SVMRegressor", 1, One(classical::svm_regressor)),
    (ML, "SVMClassifier", 1, Many(classical::svm_classifier)),
    (ML, "Scaler", 1, One(classical::scaler)),
    (ML, "Normalizer", 1, One(classical::normalizer)),
    (ML, "Binarizer", 1, One(classical::binarizer)),
    (ML, "Imputer", 1, One(classical::imputer)),
    (ML, "FeatureVectorizer", 1, One(classical::feature_vectorizer)),
    (ML, "ZipMap", 1, Composed(classical::zip_map)),
    (ML, "CastMap", 1, One(classical::refuse_maps)),
    (ML, "DictVectorizer", 1, One(classical::refuse_maps)),
    (ML, "LabelEncoder", 1, One(labels::label_encoder)),
    (ML, "CategoryMapper", 1, One(labels::category_mapper)),
    (ML, "OneHotEncoder", 1, One(labels::one_hot_encoder)),
];
