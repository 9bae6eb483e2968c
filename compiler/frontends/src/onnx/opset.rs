//! Which versions of the format and of its operator sets a model uses.

use std::collections::HashMap;

use super::proto;
use crate::ImportError;

const OLDEST_IR: i64 = 3;
const NEWEST_IR: i64 = 14;

/// Operator sets from 7 on are supported throughout; a few operators also in their earlier form.
const OLDEST_OPSET: i64 = 1;
const NEWEST_OPSET: i64 = 28;

/// The standard operators' domain, under either of its names.
pub(crate) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The operator sets that a model or a function imports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opsets(HashMap<String, i64>);

impl Opsets {
    /// # Errors
    /// [`ImportError::OperatorSet`] when the standard operators are of a version not known here.
    pub(crate) fn new(imports: &[proto::OperatorSetIdProto]) -> Result<Self, ImportError> {
        let mut opsets = HashMap::new();
        for import in imports {
            let domain = canonical_domain(import.domain());
            if domain.is_empty() && !(OLDEST_OPSET..=NEWEST_OPSET).contains(&import.version()) {
                return Err(ImportError::OperatorSet {
                    domain: "ai.onnx".to_owned(),
                    found: import.version(),
                    oldest: OLDEST_OPSET,
                    newest: NEWEST_OPSET,
                });
            }
            opsets.insert(domain.to_owned(), import.version());
        }
        Ok(Self(opsets))
    }

    /// The version of `domain`, 0 if it is not imported.
    pub(crate) fn version(&self, domain: &str) -> i64 {
        self.0.get(domain).copied().unwrap_or(0)
    }
}

/// # Errors
/// [`ImportError::IrVersion`] when the file is of a version not known here.
pub(crate) fn check_ir_version(model: &proto::ModelProto) -> Result<(), ImportError> {
    let found = model.ir_version();
    match (OLDEST_IR..=NEWEST_IR).contains(&found) {
        true => Ok(()),
        false => Err(ImportError::IrVersion { found, oldest: OLDEST_IR, newest: NEWEST_IR }),
    }
}
