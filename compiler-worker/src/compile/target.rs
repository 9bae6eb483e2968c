//! A requested target in the compiler's terms.

use ired_compiler::targets::CpuTarget;
use ired_worker::TargetRequest;

/// The target that a request means on this machine.
pub(crate) fn resolve(request: &TargetRequest) -> Result<CpuTarget, String> {
    let base = match &request.triple {
        None => CpuTarget::host(),
        Some(triple) => CpuTarget::parse(triple),
    };
    let mut target = base.map_err(|error| error.to_string())?;
    for feature in &request.features {
        let changed = match (feature.strip_prefix('+'), feature.strip_prefix('-')) {
            (Some(name), _) => target.with(name),
            (_, Some(name)) => target.without(name),
            _ => return Err(format!("feature `{feature}` has neither `+` nor `-` in front")),
        };
        target = changed.map_err(|error| error.to_string())?;
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(triple: &str, features: &[&str]) -> TargetRequest {
        TargetRequest {
            triple: Some(triple.to_owned()),
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
        }
    }

    #[test]
    fn features_come_and_go() {
        let plain = resolve(&request("x86_64-linux", &[])).unwrap();
        assert!(plain.has("avx2") && !plain.has("avx512f"));
        let wide = resolve(&request("x86_64-linux", &["+avx512f"])).unwrap();
        assert!(wide.has("avx512bw"));
        let back = resolve(&request("x86_64-linux", &["+avx512f", "-avx512f"])).unwrap();
        assert_eq!(back, plain);
        let neon = resolve(&request("aarch64-linux", &["+sve2", "+sve512", "-sve"])).unwrap();
        assert_eq!(neon, resolve(&request("aarch64-linux", &["+fullfp16"])).unwrap());
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        for (triple, features, named) in [
            ("mips-linux", &[][..], "mips-linux"),
            ("x86_64-linux", &["-fma"][..], "fma"),
            ("x86_64-linux", &["+warp"][..], "warp"),
            ("x86_64-linux", &["avx2"][..], "avx2"),
        ] {
            let error = resolve(&request(triple, features)).unwrap_err();
            assert!(error.contains(&format!("`{named}`")), "{error}");
        }
    }
}
