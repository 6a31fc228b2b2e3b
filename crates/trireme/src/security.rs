//! Flags about the API server's admission, with kube-apiserver's names.

use crate::Failure;
use clap::Args;
use std::path::PathBuf;
use trireme_apiserver::AdmissionOptions;

/// Who may do what, and what is looked at on the way.
#[derive(Args, Clone, Debug, Default)]
pub struct Security {
    /// Admission plugins to run besides the default ones.
    #[arg(long, env = "TRIREME_ENABLE_ADMISSION_PLUGINS", value_name = "NAME", value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Default admission plugins not to run.
    #[arg(long, env = "TRIREME_DISABLE_ADMISSION_PLUGINS", value_name = "NAME", value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// How admission plugins are set up: a file with an AdmissionConfiguration.
    #[arg(long, env = "TRIREME_ADMISSION_CONTROL_CONFIG_FILE", value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
}

impl Security {
    /// Admission as the flags say.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn admission(&self) -> Result<AdmissionOptions, Failure> {
        let file = self.admission_control_config_file.as_deref();
        let config = file.map(AdmissionOptions::read_config).transpose();
        Ok(AdmissionOptions {
            enable: self.enable_admission_plugins.clone(),
            disable: self.disable_admission_plugins.clone(),
            config: config.map_err(|why| format!("--admission-control-config-file: {why}"))?,
        })
    }
}
