use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels per part: `info,trireme_node=debug`.
    pub level: String,
    /// How a line looks.
    pub format: Format,
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level cannot be read.
    #[error("the log level {level:?} is not valid: {reason}")]
    Level {
        /// The level as given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logging was started before.
    #[error("logging was started twice")]
    Twice,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither text nor json")),
        }
    }
}

/// Whether logging can be started so.
pub fn check(config: &LogConfig) -> Result<(), Error> {
    filter(config).map(|_| ())
}

fn filter(config: &LogConfig) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(&config.level)
        .map_err(|error| Error::Level { level: config.level.clone(), reason: error.to_string() })
}

/// Starts logging to standard error. Colours are used only on a terminal.
pub fn start(config: &LogConfig) -> Result<(), Error> {
    let filter = filter(config)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.format {
        Format::Text => builder.compact().try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| Error::Twice)
}
