//! A requested target in the compiler's terms.

use ired_compiler::targets::CpuTarget;
use ired_worker::TargetRequest;

/// The target that a request means on this machine.
pub(crate) fn resolve(request: &TargetRequest) -> Result<CpuTarget, String> {
    let base = match &request.triple {
        None => CpuTarget::host(),
        Some(triple) => CpuTarget::parse(triple),
    };
    let base = base.map_err(|error| error.to_string())?;
    if request.features.is_empty() {
        return Ok(base);
    }
    let mut features = base.features;
    let mut taken = Vec::new();
    for feature in &request.features {
        match (feature.strip_prefix('+'), feature.strip_prefix('-')) {
            (Some(added), _) => features.push(added.to_owned()),
            (_, Some(name)) => {
                taken.push(name);
                features.retain(|present| !goes_with(present, name));
            }
            _ => return Err(format!("feature `{feature}` has neither `+` nor `-` in front")),
        }
    }
    let wanted: String = features.iter().map(|feature| format!(",+{feature}")).collect();
    let target = CpuTarget::parse(&format!("{}{wanted}", base.triple)).map_err(|error| error.to_string())?;
    match taken.into_iter().find(|name| target.has(name)) {
        Some(name) => Err(format!("feature `{name}` cannot be taken away: `{target}` is the least there is")),
        None => Ok(target),
    }
}

/// Whether `present` cannot stay without `taken`: AVX-512 comes as a whole.
fn goes_with(present: &str, taken: &str) -> bool {
    present == taken || (taken.starts_with("avx512") && present.starts_with("avx512"))
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
