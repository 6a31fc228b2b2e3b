//! What `--disable` may name.

use trireme_controllers::Controllers;

/// Parts of the process that are no controllers.
const PARTS: [&str; 4] = ["scheduler", "dns", "proxy", "node"];

/// Every name is one of a part or of a controller.
///
/// # Errors
/// The name that is not, and the nearest one that is.
pub fn check(names: &[String]) -> Result<(), String> {
    let known = || PARTS.into_iter().chain(Controllers::names());
    match names.iter().find(|name| !known().any(|known| known == **name)) {
        None => Ok(()),
        Some(name) => Err(match crate::config::nearest(name, known()) {
            Some(near) => format!("--disable: there is no part {name:?}; did you mean {near:?}?"),
            None => {
                format!("--disable: there is no part {name:?}; parts are {}", known().collect::<Vec<_>>().join(", "))
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        assert_eq!(check(&["scheduler".into(), "deployment-controller".into()]), Ok(()));
        assert!(check(&["schduler".into()]).unwrap_err().contains("\"scheduler\""));
        assert!(check(&["xyzzy".into()]).unwrap_err().contains("parts are"));
    }
}
