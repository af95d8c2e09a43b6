use std::{env, io::IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt::time::SystemTime};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The filter makes no sense.
#[derive(Debug, thiserror::Error)]
#[error(
    "log level {text:?}: {reason}, expected off, error, warn, info, debug or trace, or directives \
     such as info,vtep_agent::bgp=debug"
)]
pub struct InvalidFilter {
    text: String,
    reason: String,
}

/// Sends the logs of this process, those of the `log` facade included, to stderr. The filter is
/// `level`, else `VTEP_LOG`, else `RUST_LOG`, else `info`. Under the systemd journal, which has the
/// time already, text lines carry none. Only the first call of a process has an effect.
///
/// # Errors
///
/// The filter cannot be parsed.
pub fn init(level: Option<&str>, format: LogFormat) -> Result<(), InvalidFilter> {
    let text = level
        .map(str::to_owned)
        .or_else(|| env::var("VTEP_LOG").ok())
        .or_else(|| env::var("RUST_LOG").ok())
        .filter(|text| !text.trim().is_empty())
        .unwrap_or_else(|| "info".to_owned());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(&text)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let timestamps = env::var_os("JOURNAL_STREAM").is_none();
    // `try_init` fails only when there is a subscriber already, which then stays.
    let _ = match (format, timestamps) {
        (LogFormat::Json, _) => subscriber.json().flatten_event(true).try_init(),
        (LogFormat::Text, true) => subscriber.with_timer(SystemTime).try_init(),
        (LogFormat::Text, false) => subscriber.without_time().try_init(),
    };
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, InvalidFilter> {
    let invalid = |reason: String| InvalidFilter {
        text: text.to_owned(),
        reason,
    };
    // A lone word that is no level would be taken for a module that logs everything.
    for directive in text.split(',') {
        let word = directive.trim();
        let bare = !word.contains(['=', '[', ':']);
        if bare
            && word
                .parse::<tracing_subscriber::filter::LevelFilter>()
                .is_err()
        {
            return Err(invalid(format!("{word:?} is no level")));
        }
    }
    EnvFilter::try_new(text).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for text in ["info", "DEBUG", "off", "info,vtep_agent::bgp=debug"] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["loud", "vtep_agent::bgp=loud"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
