//! `--target host|TRIPLE[,+feature,-feature…]`.

use ired_worker::TargetRequest;

/// Reads a target as users write it.
pub(crate) fn parse(text: &str) -> Result<TargetRequest, String> {
    let mut parts = text.split(',');
    let triple = match parts.next() {
        None | Some("") => return Err("expected `host` or a triple such as `x86_64-linux`".to_owned()),
        Some("host") => None,
        Some(triple) => Some(triple.to_owned()),
    };
    let mut features = Vec::new();
    for feature in parts {
        if !feature.starts_with(['+', '-']) || feature.len() < 2 {
            return Err(format!("feature `{feature}`: expected `+name` or `-name`"));
        }
        features.push(feature.to_owned());
    }
    Ok(TargetRequest { triple, features })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_and_features_are_told_apart() {
        assert_eq!(parse("host"), Ok(TargetRequest::default()));
        let request = parse("x86_64-linux,+avx2,-fma").unwrap();
        assert_eq!(request.triple.as_deref(), Some("x86_64-linux"));
        assert_eq!(request.features, ["+avx2", "-fma"]);
        assert!(parse("x86_64-linux,avx2").is_err());
        assert!(parse("").is_err());
    }
}
