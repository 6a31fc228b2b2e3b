//! Ports by number or name.

use trireme_schema::Value;

/// A port by number or by its name in the container.
///
/// # Errors
/// When there is none, in words.
pub(crate) fn port(container: &Value, port: Option<&Value>) -> Result<u16, String> {
    let number = match port {
        Some(Value::Int(n)) => Some(*n),
        Some(Value::String(name)) => {
            let named = container.list_at(&["ports"]).iter().find(|p| p.str_at(&["name"]) == name);
            match named.and_then(|p| p.int_at(&["containerPort"])).or_else(|| name.parse().ok()) {
                None => return Err(format!("couldn't find port: {name:?}")),
                number => number,
            }
        }
        _ => None,
    };
    let number = number.unwrap_or_default();
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn ports_go_by_number_and_by_name() {
        let container = json::parse(br#"{"ports":[{"name":"web","containerPort":80}]}"#).unwrap();
        for (text, want) in [("8080", Ok(8080)), ("\"web\"", Ok(80)), ("\"90\"", Ok(90)), ("70000", Err(()))] {
            let value = json::parse(text.as_bytes()).unwrap();
            assert_eq!(port(&container, Some(&value)).map_err(drop), want, "{text}");
        }
        assert!(port(&container, Some(&"none".into())).is_err());
    }
}
