//! `spec.limits`: what a plugin may use, within what the installation allows.

use std::{str::FromStr, time::Duration};

use penstock_core::plugin::{Isolation, PluginLimits};

use super::quantity;
use crate::{nearest::did_you_mean, problem::Problem, resources::wasm_plugin};

type Given = wasm_plugin::PluginLimits;

/// One limit, in the resource and as the plugin host takes it.
enum Field {
    Time(fn(&mut PluginLimits) -> &mut Duration, fn(&Given) -> Option<&str>),
    Size(fn(&mut PluginLimits) -> &mut u64, fn(&Given) -> Option<&str>),
    Number(fn(&mut PluginLimits) -> &mut u32, fn(&Given) -> Option<u32>),
}

const FIELDS: [(&str, Field); 12] = [
    ("hookTime", Field::Time(|it| &mut it.hook_time, |it| it.hook_time.as_deref())),
    ("exchangeTime", Field::Time(|it| &mut it.exchange_time, |it| it.exchange_time.as_deref())),
    ("configureTime", Field::Time(|it| &mut it.configure_time, |it| it.configure_time.as_deref())),
    ("wallTime", Field::Time(|it| &mut it.wall_time, |it| it.wall_time.as_deref())),
    ("memory", Field::Size(|it| &mut it.memory, |it| it.memory.as_deref())),
    ("moduleSize", Field::Size(|it| &mut it.module_size, |it| it.module_size.as_deref())),
    ("keyValueBytes", Field::Size(|it| &mut it.key_value_bytes, |it| it.key_value_bytes.as_deref())),
    ("bodyBuffer", Field::Size(|it| &mut it.body_buffer, |it| it.body_buffer.as_deref())),
    ("outboundCalls", Field::Number(|it| &mut it.outbound_calls, |it| it.outbound_calls)),
    ("waiting", Field::Number(|it| &mut it.waiting, |it| it.waiting)),
    ("logLines", Field::Number(|it| &mut it.log_lines, |it| it.log_lines)),
    ("metricSeries", Field::Number(|it| &mut it.metric_series, |it| it.metric_series)),
];

/// The most that `spec.limits` of any WasmPlugin may say. Who writes the resource need not be who runs the gateway, and a limit without a
/// ceiling is none: a hook that may take an hour stops a worker for an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCeilings(PluginLimits);

/// Far beyond the defaults, and still nothing that one plugin could hurt the others by.
impl Default for PluginCeilings {
    fn default() -> Self {
        Self(PluginLimits {
            // A worker stands still for so long.
            hook_time: Duration::from_millis(100),
            // Of each hook of it the above holds as well.
            exchange_time: Duration::from_hours(24),
            // An examination has 30 seconds of CPU time for all of it.
            configure_time: Duration::from_secs(10),
            wall_time: Duration::from_secs(60),
            memory: 256 << 20,
            // Compiling takes fifty times that.
            module_size: 64 << 20,
            key_value_bytes: 256 << 20,
            // For each exchange, in each direction.
            body_buffer: 16 << 20,
            outbound_calls: 64,
            waiting: 1024,
            log_lines: 1000,
            metric_series: 1000,
            // Has no ceiling.
            isolation: Isolation::default(),
        })
    }
}

/// Why these are no ceilings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCeiling {
    /// No name or no value.
    #[error("`{0}` is not written as NAME=VALUE, such as `hookTime=10ms`")]
    NotAPair(String),
    /// No limit has this name.
    #[error("`{name}` is no limit{hint}")]
    Unknown {
        /// As it was given.
        name: String,
        /// The nearest one.
        hint: String,
    },
    /// Of another kind.
    #[error("{name}: {why}")]
    Value {
        /// Of the limit.
        name: &'static str,
        /// What it must be.
        why: String,
    },
}

/// `hookTime=10ms,memory=64Mi`: these, and the usual ones of all others.
impl FromStr for PluginCeilings {
    type Err = InvalidCeiling;

    fn from_str(text: &str) -> Result<Self, InvalidCeiling> {
        let mut ceilings = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| InvalidCeiling::NotAPair(pair.into()))?;
            ceilings.set(name.trim(), value.trim())?;
        }
        Ok(ceilings)
    }
}

impl PluginCeilings {
    fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidCeiling> {
        let Some((name, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
            let hint = did_you_mean(name, FIELDS.iter().map(|(name, _)| *name));
            return Err(InvalidCeiling::Unknown { name: name.into(), hint });
        };
        let done = match field {
            Field::Time(of, _) => duration(value).map(|value| *of(&mut self.0) = value),
            Field::Size(of, _) => size(value).map(|value| *of(&mut self.0) = value),
            Field::Number(of, _) => number(value).map(|value| *of(&mut self.0) = value),
        };
        done.map_err(|why| InvalidCeiling::Value { name, why })
    }
}

/// The limits of a plugin: those that are given and possible, and the usual ones.
pub(super) fn evaluate(given: Option<&Given>, most: &PluginCeilings, refused: &mut Vec<Problem>) -> PluginLimits {
    let (mut limits, PluginCeilings(mut most), none) = (PluginLimits::default(), most.clone(), Given::default());
    let given = given.unwrap_or(&none);
    for (name, field) in &FIELDS {
        let limited = match field {
            Field::Time(of, text) => {
                limit(of(&mut limits), *of(&mut most), text(given).map(duration), |it| format!("{it:?}"))
            }
            Field::Size(of, text) => {
                limit(of(&mut limits), *of(&mut most), text(given).map(size), quantity::show_bytes)
            }
            Field::Number(of, value) => {
                limit(of(&mut limits), *of(&mut most), value(given).map(Ok), |it| it.to_string())
            }
        };
        if let Err(why) = limited {
            refused.push(Problem::invalid(format!("spec.limits.{name}: {why}")));
        }
    }
    limits
}

/// A value that is given must be possible; the usual one is lowered to what is.
fn limit<T: Copy + PartialOrd>(
    limit: &mut T,
    most: T,
    given: Option<Result<T, String>>,
    show: impl Fn(T) -> String,
) -> Result<(), String> {
    match given.transpose()? {
        Some(given) if given > most => {
            let (given, most) = (show(given), show(most));
            Err(format!(
                "{given} is more than this gateway allows ({most}; its operator may raise that by `--plugin-limits`)"
            ))
        }
        Some(given) => {
            *limit = given;
            Ok(())
        }
        None if *limit > most => {
            *limit = most;
            Ok(())
        }
        None => Ok(()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = quantity::duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("`{text}` is no duration above zero, such as `2ms`"))
}

fn size(text: &str) -> Result<u64, String> {
    let size = quantity::bytes(text).filter(|size| *size > 0);
    size.ok_or_else(|| format!("`{text}` is no size above zero, such as `16Mi`"))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_of_an_operator() {
        let ceilings: PluginCeilings = "hookTime=1ms, memory=64Mi,waiting=5".parse().unwrap();
        let PluginCeilings(usual) = PluginCeilings::default();
        let expected =
            PluginLimits { hook_time: Duration::from_millis(1), memory: 64 << 20, waiting: 5, ..usual.clone() };
        assert_eq!(ceilings, PluginCeilings(expected));
        assert_eq!("".parse(), Ok(PluginCeilings(usual)));
        let error = |text: &str| text.parse::<PluginCeilings>().unwrap_err().to_string();
        assert_eq!(error("hookTime"), "`hookTime` is not written as NAME=VALUE, such as `hookTime=10ms`");
        assert!(
            error("hooktime=1s").starts_with("`hooktime` is no limit; did you mean `hookTime`"),
            "{}",
            error("hooktime=1s")
        );
        assert_eq!(error("memory=much"), "memory: `much` is no size above zero, such as `16Mi`");
        assert_eq!(error("waiting=-1"), "waiting: `-1` is no whole number");
    }

    #[test]
    fn every_limit_has_a_ceiling() {
        let given = Given {
            hook_time: Some("1h".into()),
            exchange_time: Some("25h".into()),
            configure_time: Some("1h".into()),
            wall_time: Some("1h".into()),
            memory: Some("1Gi".into()),
            module_size: Some("1Gi".into()),
            key_value_bytes: Some("1Gi".into()),
            body_buffer: Some("1Gi".into()),
            outbound_calls: Some(1 << 20),
            waiting: Some(1 << 20),
            log_lines: Some(1 << 20),
            metric_series: Some(1 << 20),
        };
        let mut refused = Vec::new();
        evaluate(Some(&given), &PluginCeilings::default(), &mut refused);
        assert_eq!(refused.len(), FIELDS.len(), "{refused:?}");
        for (problem, (name, _)) in refused.iter().zip(&FIELDS) {
            assert!(problem.message.starts_with(&format!("spec.limits.{name}: ")), "{}", problem.message);
        }
        let message = "spec.limits.memory: 1Gi is more than this gateway allows (256Mi; its operator may raise that by `--plugin-limits`)";
        assert!(refused.iter().any(|problem| problem.message == message), "{refused:?}");
    }

    #[test]
    fn the_usual_limits_are_lowered_to_what_is_allowed() {
        let mut refused = Vec::new();
        let most = "hookTime=1ms,memory=64Mi".parse().unwrap();
        let expected = PluginLimits { hook_time: Duration::from_millis(1), ..PluginLimits::default() };
        assert_eq!(evaluate(None, &most, &mut refused), expected);
        assert!(refused.is_empty());
    }
}
