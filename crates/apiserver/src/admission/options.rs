//! Which plugins run, and how they are set up (`--enable-admission-plugins`, `--admission-control-config-file`).

use super::plugins::{PLUGINS, Plugin};
use super::{events, image_policy, node_selector, pod_security, quota};
use std::path::Path;
use trireme_schema::{Value, yaml};

/// What the server is told of admission.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Plugins to run besides the default ones.
    pub enable: Vec<String>,
    /// Default plugins not to run.
    pub disable: Vec<String>,
    /// An `AdmissionConfiguration` (apiserver.config.k8s.io/v1), with the plugins' files read into it.
    pub config: Option<Value>,
}

impl Options {
    /// Reads a file of an `AdmissionConfiguration` and the files that it names (relative to itself).
    ///
    /// # Errors
    /// What is wrong, with the file.
    pub fn read_config(path: &Path) -> Result<Value, String> {
        let read = |path: &Path| -> Result<Value, String> {
            let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            yaml::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
        };
        let mut config = read(path)?;
        let kind = config.str_at(&["kind"]);
        if kind != "AdmissionConfiguration" {
            return Err(format!("{}: kind is {kind:?}, not AdmissionConfiguration", path.display()));
        }
        let plugins = config.at_mut(&["plugins"]).and_then(Value::as_array_mut);
        for plugin in plugins.into_iter().flatten() {
            let file = plugin.str_at(&["path"]).to_owned();
            if !file.is_empty() && plugin.at(&["configuration"]).is_none() {
                let whole = path.parent().unwrap_or(Path::new("")).join(file);
                plugin.set_at(&["configuration"], read(&whole)?);
            }
        }
        Ok(config)
    }

    /// A plugin's configuration.
    fn of(&self, plugin: &str) -> Option<&Value> {
        let plugins = self.config.as_ref()?.list_at(&["plugins"]);
        plugins.iter().find(|p| p.str_at(&["name"]) == plugin)?.get("configuration")
    }
}

/// The plugins of a server.
pub struct Admission {
    pub(super) plugins: Vec<&'static Plugin>,
    pub(super) pod_security: pod_security::Settings,
    pub(super) node_selectors: node_selector::Settings,
    pub(super) event_limits: events::Limits,
    pub(super) image_policy: Option<image_policy::Settings>,
    pub(super) limited: quota::Limited,
}

impl Admission {
    /// Sets up the plugins.
    ///
    /// # Errors
    /// A name that is no plugin's, or what is wrong with a configuration.
    pub fn new(options: &Options) -> Result<Self, String> {
        let known: Vec<&str> = super::known_plugins().collect();
        if let Some(name) = options.enable.iter().chain(&options.disable).find(|n| !known.contains(&n.as_str())) {
            return Err(format!("no admission plugin {name:?}; there are {}", known.join(", ")));
        }
        if let Some(name) = options.enable.iter().find(|n| options.disable.contains(n)) {
            return Err(format!("{name} is in both enable-admission-plugins and disable-admission-plugins"));
        }
        let named = |list: &[String], plugin: &Plugin| list.iter().any(|n| n == plugin.name);
        let runs = |p: &&Plugin| (p.default || named(&options.enable, p)) && !named(&options.disable, p);
        let plugins: Vec<&Plugin> = PLUGINS.iter().filter(runs).collect();
        let image_policy = plugins.iter().any(|plugin| plugin.name == "ImagePolicyWebhook");
        let image_policy = image_policy.then(|| image_policy::Settings::read(options.of("ImagePolicyWebhook")));
        Ok(Self {
            plugins,
            pod_security: pod_security::Settings::read(options.of("PodSecurity"))?,
            node_selectors: node_selector::Settings::read(options.of("PodNodeSelector"))?,
            event_limits: events::Limits::read(options.of("EventRateLimit"))?,
            image_policy: image_policy.transpose()?,
            limited: quota::Limited::read(options.of("ResourceQuota"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(enable: &[&str], disable: &[&str]) -> Result<Vec<&'static str>, String> {
        let texts = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
        let options = Options { enable: texts(enable), disable: texts(disable), config: None };
        Ok(Admission::new(&options)?.plugins.iter().map(|p| p.name).collect())
    }

    #[test]
    fn plugins_run_in_their_order_unless_turned_off() {
        let all = names(&["AlwaysPullImages"], &["PodSecurity"]).unwrap();
        assert!(all.contains(&"AlwaysPullImages") && !all.contains(&"PodSecurity"));
        assert_eq!((all.first(), all.last()), (Some(&"NamespaceLifecycle"), Some(&"ResourceQuota")));
        assert!(!names(&[], &[]).unwrap().contains(&"DenyServiceExternalIPs"));
    }

    #[test]
    fn a_plugin_that_needs_a_configuration_says_so() {
        assert!(names(&["ImagePolicyWebhook"], &[]).unwrap_err().contains("no config specified"));
    }

    #[test]
    fn a_name_that_is_no_plugin_is_told() {
        assert!(names(&["PodSecurityPolicy"], &[]).unwrap_err().contains("PodSecurityPolicy"));
        assert!(names(&["PodSecurity"], &["PodSecurity"]).unwrap_err().contains("both"));
        assert!(names(&[], &["MutatingAdmissionWebhook"]).is_ok());
    }
}
