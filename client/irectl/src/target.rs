//! `--target host|TRIPLE[,+feature,-feature…][,TRIPLE…]`: one target, or several in the order of preference.

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

/// Targets as users write them, in the order of preference. What has a sign belongs to the target before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) first: TargetRequest,
    pub(crate) fallbacks: Vec<TargetRequest>,
}

/// What targets begin with, and features do not: architectures, and their levels.
const BEGINNINGS: [&str; 6] = ["host", "x86", "aarch64", "armv", "riscv64", "rva"];

/// Reads one target or several.
pub(crate) fn parse_list(text: &str) -> Result<Targets, String> {
    let mut targets: Vec<String> = Vec::new();
    for part in text.split(',') {
        let is_target = BEGINNINGS.iter().any(|beginning| part.starts_with(beginning));
        match targets.last_mut() {
            Some(target) if !is_target => {
                target.push(',');
                target.push_str(part);
            }
            _ => targets.push(part.to_owned()),
        }
    }
    let mut targets = targets.iter().map(|target| parse(target));
    let first = targets.next().unwrap_or_else(|| parse(""))?;
    Ok(Targets { first, fallbacks: targets.collect::<Result<_, _>>()? })
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
        let several = parse_list("x86-64-v4,+avx512vnni,host,x86_64-linux,avx2").unwrap();
        assert_eq!(several.first, parse("x86-64-v4,+avx512vnni").unwrap());
        assert_eq!(several.fallbacks, [parse("host").unwrap(), parse("x86_64-linux,+avx2").unwrap()]);
        let elsewhere = parse_list("armv9.1-a,sve256,rva23u64,aarch64-linux,+neon").unwrap();
        assert_eq!(elsewhere.first, parse("armv9.1-a,+sve256").unwrap());
        assert_eq!(elsewhere.fallbacks, [parse("rva23u64").unwrap(), parse("aarch64-linux,+neon").unwrap()]);
        assert!(parse_list("host,,x86_64-linux").is_err() && parse_list("").is_err());
        assert!(parse("x86_64-linux,+").is_err());
        assert!(parse("").is_err());
    }
}
