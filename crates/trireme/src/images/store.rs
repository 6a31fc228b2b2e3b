//! How the image store is opened, whoever opens it.

use crate::Failure;
use crate::instance::Instance;
use std::path::Path;
use trireme_runtime::images::{ImagesOptions, Proxy, Registries};
use trireme_schema::{json, yaml};

/// The store of an instance, with the registries of `file` (which need not exist) and the proxy of the environment.
///
/// # Errors
/// What is wrong in the file.
pub fn options(instance: &Instance, file: &Path) -> Result<ImagesOptions, Failure> {
    let mut options = ImagesOptions::new(instance.path("images"));
    options.registries = registries(file)?;
    let variable = |names: [&str; 2]| names.into_iter().find_map(|name| std::env::var(name).ok());
    options.proxy = Proxy {
        https: variable(["HTTPS_PROXY", "https_proxy"]).filter(|proxy| !proxy.is_empty()),
        except: variable(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
    };
    Ok(options)
}

/// The registries that a file tells; none if there is no file.
///
/// # Errors
/// What is wrong in it.
pub fn registries(file: &Path) -> Result<Registries, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text).map_err(|e| format!("{}: {e}", file.display()).into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Registries::default()),
        Err(error) => Err(format!("cannot read {}: {error}", file.display()).into()),
    }
}

fn parse(text: &str) -> Result<Registries, String> {
    let value = yaml::parse(text).map_err(|e| e.to_string())?;
    if value == trireme_schema::Value::Null {
        return Ok(Registries::default());
    }
    serde_json::from_str(&json::to_string(&value)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_read_and_unknown_keys_are_named() {
        let read = parse("mirrors:\n  docker.io:\n    endpoint: [https://a.example]\n").unwrap();
        assert_eq!(read.mirrors["docker.io"].endpoint, ["https://a.example"]);
        assert!(parse("miror: {}\n").unwrap_err().contains("miror"));
        assert_eq!(parse("").unwrap(), Registries::default());
    }
}
