//! `--target host|TRIPLE[,feature,-feature…]`.

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
        match feature.trim_start_matches(['+', '-']) {
            "" => return Err(format!("feature `{feature}`: expected `name`, `+name` or `-name`")),
            bare if bare == feature => features.push(format!("+{bare}")),
            _ => features.push(feature.to_owned()),
        }
    }
    Ok(TargetRequest { triple, features })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_and_features_are_told_apart() {
        assert_eq!(parse("host"), Ok(TargetRequest::default()));
        let request = parse("x86_64-linux,+avx2,-fma,avx512f").unwrap();
        assert_eq!(request.triple.as_deref(), Some("x86_64-linux"));
        assert_eq!(request.features, ["+avx2", "-fma", "+avx512f"]);
        assert!(parse("x86_64-linux,+").is_err());
        assert!(parse("").is_err());
    }
}
