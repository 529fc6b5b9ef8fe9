//! `spec.capabilities.rateLimits[].redis`: where a bucket's counts are, as a value of the revision and as what it leads to now.

use std::sync::Arc;

use penstock_core::{
    ResourceRef,
    backend::BackendKey,
    plugin::{RateLimit, Redacted, RedisBucket, RedisGrant, RedisLogin, SecretKey, WhenUnavailable},
};

use super::{outbound, spec};
use crate::{
    endpoints::{BackendRegistry, Origin},
    nearest::did_you_mean,
    problem::Problem,
    resources::wasm_plugin::{PluginRedis, RedisUnavailable},
    route::find_for_plugin,
    view::View,
};

/// The grant, if nothing is wrong with it.
pub(super) fn evaluate(id: &ResourceRef, given: &PluginRedis, problems: &mut Vec<Problem>) -> Option<RedisGrant> {
    let before = problems.len();
    let password = given.password_secret_ref.as_ref();
    if given.username.is_some() && password.is_none() {
        problems.push(Problem::invalid("username: needs `passwordSecretRef`"));
    }
    if given.username.as_deref() == Some("") {
        problems.push(Problem::invalid("username: is empty; leave it out for the server's default user"));
    }
    let database = given.database.unwrap_or_default();
    let database = u16::try_from(database).map_err(|_| {
        problems.push(Problem::invalid(format!("database: {database} is too large; {} is the most", u16::MAX)));
    });
    let timeout = outbound::timeout(given.timeout.as_deref(), RedisGrant::USUAL_TIMEOUT, RedisGrant::LONGEST_TIMEOUT);
    let timeout = timeout.map_err(|problem| problems.push(problem));
    let when_unavailable = when_unavailable(given.when_unavailable.as_ref(), problems);
    let (Ok(database), Ok(timeout), Some(when_unavailable), true) =
        (database, timeout, when_unavailable, problems.len() == before)
    else {
        return None;
    };
    Some(RedisGrant {
        backend: outbound::reference(id, &given.backend_ref),
        database,
        username: given.username.as_deref().map(Arc::from),
        password: password.map(|it| SecretKey { name: it.name.as_str().into(), key: it.key.as_str().into() }),
        timeout,
        when_unavailable,
    })
}

fn when_unavailable(given: Option<&RedisUnavailable>, problems: &mut Vec<Problem>) -> Option<WhenUnavailable> {
    match given {
        None | Some(RedisUnavailable::Local) => Some(WhenUnavailable::Local),
        Some(RedisUnavailable::Refuse) => Some(WhenUnavailable::Refuse),
        Some(RedisUnavailable::Unknown(text)) => {
            let hint = did_you_mean(text, RedisUnavailable::KNOWN.iter().copied());
            problems.push(Problem::unsupported(format!("whenUnavailable: `{text}` is not known{hint}")));
            None
        }
    }
}

/// What is wrong with the references. It keeps nothing from running: decisions are what `whenUnavailable` says until it is put right.
pub(super) fn unresolved(view: &View<'_>, id: &ResourceRef, limits: &[RateLimit]) -> Vec<Problem> {
    let problems = limits.iter().enumerate().flat_map(|(index, limit)| {
        let redis = limit.redis.as_ref();
        let wrong = redis.map(|redis| [find(view, id, redis).err(), password(view, id, redis).err()]);
        let at = move |problem: Problem| problem.within(format_args!("spec.capabilities.rateLimits[{index}].redis"));
        wrong.into_iter().flatten().flatten().map(at)
    });
    problems.collect()
}

/// What the buckets of a revision lead to now. `backends` gets each backend that is used.
pub(super) fn resolve(
    view: &View<'_>,
    id: &ResourceRef,
    limits: &[RateLimit],
    registry: &mut BackendRegistry,
    backends: &mut Vec<BackendKey>,
) -> Arc<[RedisBucket]> {
    let resolve = |limit: &RateLimit| {
        let redis = limit.redis.as_ref()?;
        let found = find(view, id, redis).and_then(|found| Ok((found, password(view, id, redis)?)));
        let (target, password) = match found {
            Ok((found, password)) => (outbound::target(found, registry, backends), password),
            Err(problem) => (outbound::failing(&problem), None),
        };
        let login = RedisLogin { database: redis.database, username: redis.username.clone(), password };
        Some(RedisBucket { bucket: limit.name.clone(), target, login })
    };
    limits.iter().filter_map(resolve).collect()
}

/// The server. One that wants TLS is refused rather than sent a password in the clear.
fn find(view: &View<'_>, id: &ResourceRef, redis: &RedisGrant) -> Result<(BackendKey, Origin), Problem> {
    let found = find_for_plugin(view, id, &redis.backend).map_err(|problem| problem.within("backendRef"))?;
    if found.0.tls.is_some() {
        let message = format!(
            "backendRef: `{}` demands TLS (a BackendTLSPolicy, or the XBackend itself), which is not spoken to Redis; name \
             a Service without",
            found.0
        );
        return Err(Problem::new("UnsupportedProtocol", message));
    }
    Ok(found)
}

fn password(view: &View<'_>, id: &ResourceRef, redis: &RedisGrant) -> Result<Option<Redacted>, Problem> {
    let Some(SecretKey { name, key }) = &redis.password else { return Ok(None) };
    let text = spec::secret_text(view, id, name, key).map_err(|problem| problem.within("passwordSecretRef"))?;
    Ok(Some(text.as_str().into()))
}
